"""The benchmarks by name, in the order of the paper's table."""

from __future__ import annotations

from collections.abc import Sequence

from seethink.core.errors import UserError
from seethink.eval.bench.benchmark import Benchmark
from seethink.eval.tasks.emma_mini import EMMA_MINI
from seethink.eval.tasks.hallusionbench import HALLUSIONBENCH
from seethink.eval.tasks.logicvista import LOGICVISTA
from seethink.eval.tasks.mathverse import MATHVERSE
from seethink.eval.tasks.mathvision import MATHVISION, MATHVISION_MINI
from seethink.eval.tasks.mathvista import MATHVISTA
from seethink.eval.tasks.mmbench import MMBENCH
from seethink.eval.tasks.mme_reasoning import MME_REASONING
from seethink.eval.tasks.mmk12 import MMK12
from seethink.eval.tasks.mmmu import MMMU
from seethink.eval.tasks.mmmu_pro import MMMU_PRO
from seethink.eval.tasks.mmstar import MMSTAR
from seethink.eval.tasks.phyx import PHYX
from seethink.eval.tasks.seephys import SEEPHYS
from seethink.eval.tasks.visulogic import VISULOGIC
from seethink.eval.tasks.wemath import WEMATH

PAPER = (
    MMMU, EMMA_MINI, MMMU_PRO, MMK12, MMSTAR, MMBENCH, HALLUSIONBENCH, MATHVISTA, MATHVERSE, MATHVISION, WEMATH,
    VISULOGIC, LOGICVISTA, MME_REASONING, PHYX, SEEPHYS,
)  # fmt: skip
"""The 16 of the paper's table, in its order."""

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in (*PAPER, MATHVISION_MINI)}


def chosen(names: str) -> Sequence[Benchmark]:
    """The benchmarks of a list such as `mmmu,mathvista`, in the order of the table; `paper`: the 16; `all`: every one.

    Raises UserError for a name that is none.
    """
    asked = [name.strip().lower() for name in names.split(",") if name.strip()]
    known = ", ".join(BENCHMARKS)
    unknown = [name for name in asked if name not in BENCHMARKS and name not in ("all", "paper")]
    if unknown or not asked:
        raise UserError(f"--bench: expected names from {known}, all or paper; found {unknown[0]!r}" if unknown else
                        f"--bench is empty; give names from {known}, all or paper")  # fmt: skip
    wanted = set(asked) | ({one.name for one in PAPER} if "paper" in asked else set())
    return [one for one in BENCHMARKS.values() if one.name in wanted or "all" in asked]
