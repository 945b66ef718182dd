"""Tiny runs of every stage, killed at random points and resumed, compared with a run that nothing interrupted."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.fork_server import Ended, ForkServer, Request

CLOCKS = ("time/", "throughput/")
SLOW_SAVE = 0.25
"""Seconds by which `fork_server` lengthens every save, so that some kills fall into one."""
COMMON = {
    "model": "nano",
    "seed": 3,
    "checkpoint.every": 2,
    "checkpoint.keep": 2,
    "log.tensorboard": False,
    "log.rollouts_every": 1,
    "blindness.every": 3,
    "blindness.samples": 2,
    "blindness.action": "warn",
    "optim.lr": 1e-3,
    "optim.warmup_ratio": 0.3,
    "optim.schedule": "cosine",
}
SFT = {
    "data.train": "world:math:traces",
    "data.train_size": 24,
    "data.val_size": 6,
    "sft.epochs": 3,
    "sft.batch_size": 10,
    "sft.val_every": 2,
    "checkpoint.keep_best": 1,
    "checkpoint.best_metric": "loss/val",
    "checkpoint.best_mode": "min",
}
RL = {
    "data.train": "world:math",
    "data.train_size": 11,
    "rollout.prompts_per_step": 3,
    "rollout.group_size": 4,
    "rollout.max_new_tokens": 16,
    "algorithm.steps": 7,
}
STAGES: dict[str, dict[str, Any]] = {
    "sft": {"stage": "sft", **SFT},
    "connector": {"stage": "sft", **SFT, "parts.train": ["connector"], "data.train": "world:other:traces"},
    "grpo": {
        "stage": "grpo",
        **RL,
        "algorithm.dynamic_sampling": True,
        "algorithm.max_resamples": 2,
        "algorithm.curriculum": [[0.0, ["easy", "normal"]], [0.5, ["easy", "normal", "hard"]]],
        "rollout.length_schedule": [[0.0, 10], [0.4, 16]],
    },
    "beside": {"stage": "grpo", **RL, "checkpoint.asynchronous": True},
    "ppo": {"stage": "ppo", **RL, "algorithm.epochs": 2},
    "lora": {"stage": "grpo", **RL, "lora.parts": ["language"], "lora.rank": 4, "algorithm.kl_beta": 0.05},
}


def write_recipe(folder: Path, name: str, **overrides: Any) -> Path:
    """Write a TOML recipe whose run goes to the folder of the same name; dotted keys are valid TOML as they are."""
    keys: dict[str, Any] = {"name": name, "out": str(folder / name), **COMMON, **overrides}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return path


def stage_recipe(folder: Path, name: str, stage: str, **overrides: Any) -> Path:
    return write_recipe(folder, name, **STAGES[stage] | overrides)


def outcome(run: Path) -> dict[str, Any]:
    """Everything that a resumed run must reproduce: metrics without timings, sampled tokens, and hashes of files."""
    kept = {
        "metrics": _lines(run / "metrics.jsonl"),
        "blindness": _lines(run / "blindness.jsonl") if (run / "blindness.jsonl").exists() else [],
        "watchdogs": _lines(run / "watchdogs.jsonl") if (run / "watchdogs.jsonl").exists() else [],
        "entropy": _lines(run / "entropy.jsonl"),
        "done": json.loads((run / "done.json").read_text()),
        "parts": json.loads((run / "parts.json").read_text()),
        "checkpoints": sorted(p.name for p in (run / "checkpoints").iterdir()),
    }
    last = sorted((run / "checkpoints").glob("step_*"))[-1]
    files = [*(run / "rollouts").glob("*.jsonl"), *(run / "images").glob("*"), *last.rglob("*")]
    files += list((run / "best").rglob("*"))
    for file in sorted(f for f in files if f.is_file() and f.name not in ("manifest.json", "seethink.json")):
        kept[str(file.relative_to(run))] = digest(file)
    return kept


def digest(file: Path) -> str:
    """Of a file's bytes; of an optimizer's shares without the notes on them, which safetensors writes in any order."""
    content = file.read_bytes()
    if file.parent.name == "shares":
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:end])
        header["__metadata__"]["DCP_SHARDING_INFO"] = json.loads(header["__metadata__"]["DCP_SHARDING_INFO"])
        content = json.dumps(header, sort_keys=True).encode() + content[end:]
    return hashlib.sha256(content).hexdigest()


def _lines(path: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in record.items() if not k.startswith(CLOCKS)} for record in records]


@dataclass
class Point:
    """One run that was killed and resumed."""

    stage: str
    number: int
    place: str
    """What the run was doing when it was killed."""
    exact: bool
    detail: str = ""
    kills: int = 1


@dataclass
class Kills:
    """Runs of one stage, and the uninterrupted run that they are compared with."""

    server: ForkServer
    folder: Path
    stage: str
    seed: int = 0
    whole: dict[str, Any] = field(default_factory=dict)
    begin: float = 0.0
    end: float = 0.0
    """The window for kills, in seconds after the start: from shortly before the first update to the end."""

    def __post_init__(self) -> None:
        recipe = stage_recipe(self.folder, f"{self.stage}-whole", self.stage)
        ended = self.server.run(Request(recipe, slow_save=SLOW_SAVE))
        assert ended.status == 0, ended.output
        self.begin, self.end = 0.9 * ended.loaded, ended.seconds
        self.whole = outcome(self.folder / recipe.stem)

    def point(self, number: int) -> Point:
        """Kill a run at a random moment, every fourth run a second time after it resumed, then let it finish."""
        rng = random.Random(f"{self.stage} {self.seed} {number}")
        recipe = stage_recipe(self.folder, f"{self.stage}-{number}", self.stage)
        run = self.folder / recipe.stem
        killed = [self._kill(recipe, rng)]
        if number % 4 == 3:
            killed.append(self._run_until(recipe, rng, resume=True))
        last = self.server.run(Request(recipe, resume=True, slow_save=0.0))
        place = ", then ".join(end.place if end.status == -signal.SIGKILL else "finished before" for end in killed)
        if last.status != 0:
            return Point(self.stage, number, place, False, last.output[-2000:], len(killed))
        found = outcome(run)
        different = [key for key in self.whole.keys() | found.keys() if self.whole.get(key) != found.get(key)]
        if not different:
            shutil.rmtree(run)
        return Point(self.stage, number, place, not different, ", ".join(sorted(different)), len(killed))

    def _kill(self, recipe: Path, rng: random.Random) -> Ended:
        """Kill a new run. A run that finishes before its kill does not count: the machine has become faster."""
        while True:
            ended = self._run_until(recipe, rng, resume=False)
            if ended.status != 0:
                return ended
            self.end = 0.97 * min(self.end, ended.seconds)
            self.begin = min(self.begin, 0.5 * self.end)
            shutil.rmtree(recipe.with_suffix(""))

    def _run_until(self, recipe: Path, rng: random.Random, *, resume: bool) -> Ended:
        after = rng.uniform(self.begin, self.end)
        return self.server.run(Request(recipe, resume=resume, after=after, slow_save=SLOW_SAVE))


def saving(place: str) -> bool:
    """Whether the last kill fell between the start and the end of a save."""
    return re.search(r"^(saving|syncing) \S+$", place) is not None
