"""Composite scores against lmms-eval's and evalscope's own functions on random verdicts of the real annotations.

    pip download --no-deps lmms_eval==0.7.3 evalscope==1.14.1
    for wheel in lmms_eval-*.whl evalscope-*.whl; do unzip $wheel -d peers; done
    SEETHINK_PEERS=peers python -m pytest tests/numerics/test_bench_peers.py

Skipped where either is absent. The functions are loaded by file path: importing the package would load all of it.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from seethink.eval.bench.benchmark import Item
from seethink.eval.bench.load import load
from seethink.eval.bench.statistics import headline
from seethink.eval.tasks.registry import BENCHMARKS

PEERS = Path(os.environ.get("SEETHINK_PEERS", "absent"))
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "benchmarks" / "data"

pytestmark = pytest.mark.skipif(not (PEERS.is_dir() and SHARED.is_dir()), reason="no SEETHINK_PEERS, or no real data")


def peer(path: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    logger = ModuleType("loguru")
    logger.logger = logging.getLogger("peer")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "loguru", logger)
    return by_path(PEERS / "lmms_eval" / "tasks" / path)


def by_path(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("peer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def items_of(name: str) -> tuple[Item, ...]:
    return load(BENCHMARKS[name], SHARED / name, images=False).items


@pytest.mark.parametrize("seed", range(10))
def test_wemath(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    theirs, items = peer("wemath/wemath_utils.py", monkeypatch), items_of("wemath")
    right = np.random.default_rng(seed).random(len(items)) < (0.2, 0.5, 0.8)[seed % 3]
    steps = {item.groups["steps"]: "2" if item.category == "S2" else "3" for item in items if item.category != "S1"}
    table = pandas.DataFrame(
        [{"ID": i.groups["steps"], "key": f"{steps[i.groups['steps']]}steps_{i.groups['part']}", "joker": bool(one)}
         for i, one in zip(items, right, strict=True)]
    )  # fmt: skip
    metrics = theirs.calculate_metrics(*(theirs.process_steps_data(table, size) for size in (2, 3)))
    counts, _ = theirs.compute_final_scores(metrics, 525)
    lost = counts["InsufficientKnowledge"] + 0.5 * counts["InadequateGeneralization"]
    parts = BENCHMARKS["wemath"].score(items, right.astype(float)[:, None])
    assert headline(parts)[0] == pytest.approx((525 - lost - counts["RoteMemorization_strict"]) / 525)
    assert parts.figures["loose"][0] == pytest.approx((525 - lost - counts["RoteMemorization_loose"]) / 525)
    assert parts.figures["CM strict"][0] == pytest.approx(counts["CompleteMastery_strict"] / 525)


@pytest.mark.parametrize("seed", range(10))
def test_hallusionbench(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, items = peer("hallusion_bench/utils.py", monkeypatch), items_of("hallusionbench")
    right = np.random.default_rng(seed).random(len(items)) < (0.5, 0.8, 0.95)[seed % 3]
    rows = []
    for item, one in zip(items, right, strict=True):
        category, kind, set_, figure, question = item.id.split("/")
        rows.append({"category": category, "subcategory": kind, "set_id": set_, "figure_id": figure,
                     "question_id": question, "visual_input": "1", "verdict": str(int(one))})  # fmt: skip
    rows = theirs.assign_correctness(rows, "verdict")
    found = {
        "aAcc": theirs.get_eval_all(rows, "verdict"),
        "fAcc": theirs.get_eval_fig(rows),
        "qAcc": theirs.get_eval_pair_all(rows, "verdict"),
    }
    figures = BENCHMARKS["hallusionbench"].score(items, right.astype(float)[:, None]).figures
    for name, stat in found.items():
        if name != "fAcc" or not any(row["category"] == "VS" and row["figure_id"] == "0" for row in rows):
            assert figures[name][0] == pytest.approx(stat["correct"] / stat["total"]), name


@pytest.mark.parametrize("seed", range(10))
def test_hallusionbench_of_evalscope(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = PEERS / "evalscope" / "benchmarks" / "hallusion_bench" / "hallusion_bench_adapter.py"
    if not path.exists():
        pytest.skip("no evalscope under SEETHINK_PEERS")
    # What the module imports of the package stays absent, but for what its aggregation uses.
    used = {"VisionLanguageAdapter": object, "register_benchmark": lambda meta: lambda kind: kind,
            "AggScore": SimpleNamespace}  # fmt: skip
    for line in path.read_text().splitlines():
        if line.startswith("from evalscope"):
            monkeypatch.setitem(sys.modules, line.split()[1], MagicMock(**used))
    theirs, items = by_path(path).HallusionBenchAdapter(), items_of("hallusionbench")
    right = np.random.default_rng(seed).random(len(items)) < (0.5, 0.8, 0.95)[seed % 3]
    names = ("category", "subcategory", "set_id", "figure_id", "question_id")
    scores = [
        SimpleNamespace(
            score=SimpleNamespace(main_value=int(one)),
            sample_metadata=dict(zip(names, item.id.split("/"), strict=True)),
        )
        for item, one in zip(items, right, strict=True)
    ]
    overall = {
        one.dimensions["target"]: one.score
        for one in theirs.aggregate_scores(scores)
        if one.dimensions["level"] == "overall"
    }
    figures = BENCHMARKS["hallusionbench"].score(items, right.astype(float)[:, None]).figures
    for name, target in (("aAcc", "answer"), ("fAcc", "figure"), ("qAcc", "question")):
        assert figures[name][0] == pytest.approx(overall[target]), name
