"""seethink: post-train vision-language models to reason (see, then think).

The names in `__all__` are the public API (docs/api.md). Each is imported when it is first used, so that
`import seethink` loads neither torch nor anything else and changes nothing in the process.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from seethink.core.version import __version__

if TYPE_CHECKING:
    from seethink.api import evaluate, generate, load_samples, measure_entropy, select_checkpoint, token_entropy, train
    from seethink.config import EvalConfig, ReadConfig, Recipe, RewardConfig, load_recipe, make_recipe
    from seethink.core.errors import UserError
    from seethink.core.exits import RunStopped, StoppedByWatchdog
    from seethink.core.types import Completion, Grade, Microbatch, Prompt, Sample, Verdict
    from seethink.export import export_run
    from seethink.models.load import LoadedModel, load_model
    from seethink.models.logprobs import token_logprobs
    from seethink.report import write_report
    from seethink.rewards.format import has_think_format
    from seethink.rewards.grade_files import grade_file
    from seethink.rewards.grader import grade
    from seethink.rewards.rewarder import Rewarder
    from seethink.rl.advantages import group_advantages
    from seethink.rl.losses import policy_loss, token_weights
    from seethink.rl.packing import PackedSequence, collate

__all__ = [
    "Completion",
    "EvalConfig",
    "Grade",
    "LoadedModel",
    "Microbatch",
    "PackedSequence",
    "Prompt",
    "ReadConfig",
    "Recipe",
    "RewardConfig",
    "Rewarder",
    "RunStopped",
    "Sample",
    "StoppedByWatchdog",
    "UserError",
    "Verdict",
    "__version__",
    "collate",
    "evaluate",
    "export_run",
    "generate",
    "grade",
    "grade_file",
    "group_advantages",
    "has_think_format",
    "load_model",
    "load_recipe",
    "load_samples",
    "make_recipe",
    "measure_entropy",
    "policy_loss",
    "select_checkpoint",
    "token_entropy",
    "token_logprobs",
    "token_weights",
    "train",
    "write_report",
]

_NAMES = {
    "api": "evaluate generate load_samples measure_entropy select_checkpoint token_entropy train",
    "config": "EvalConfig ReadConfig Recipe RewardConfig load_recipe make_recipe",
    "core.errors": "UserError",
    "core.exits": "RunStopped StoppedByWatchdog",
    "core.types": "Completion Grade Microbatch Prompt Sample Verdict",
    "export": "export_run",
    "models.load": "LoadedModel load_model",
    "models.logprobs": "token_logprobs",
    "report": "write_report",
    "rewards.format": "has_think_format",
    "rewards.grade_files": "grade_file",
    "rewards.grader": "grade",
    "rewards.rewarder": "Rewarder",
    "rl.advantages": "group_advantages",
    "rl.losses": "policy_loss token_weights",
    "rl.packing": "PackedSequence collate",
}
_HOMES = {name: f"seethink.{module}" for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a public name where it is defined, and keep it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'seethink' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """`seethink.generate` and `seethink.train` are the functions, even after the packages of these names were imported.

    The import system stores a package as an attribute of its parent; where a public function has that name, it is not
    stored. `from seethink.train.grpo import ...` works all the same.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
