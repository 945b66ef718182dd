"""Watchdogs on made-up series: what each rule raises an alarm at, and that a state is all a rule has."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from seethink.config import Watchdog, WatchdogsConfig
from seethink.core.exits import StoppedByWatchdog
from seethink.train.hooks.watchdog_rules import NAMES, SIGHT, WARM_UP, WATCHDOGS, Alarm, Pack, sight
from seethink.train.hooks.watchdogs import Watchdogs, read_alarms
from seethink.train.step import StepResult

Metrics = dict[str, float]
STEADY: Metrics = {
    "reward/mean": 0.6, "entropy/mean": 0.3, "optim/grad_norm": 1.0, "response/repetition": 0.02,
    "response/compression": 1.1, "response/length_mean": 30.0, "response/truncated_share": 0.01, "reward/format": 0.98,
    "response/mixed_script_share": 0.0, "blindness/logprob_t_blank": 9.0, "blindness/logprob_t_shuffled": 8.0,
    "mismatch_kl/mean": 1e-4,
}  # fmt: skip
TROUBLE: dict[str, Metrics] = {
    "reward_collapse": {"reward/mean": 0.35},
    "entropy_collapse": {"entropy/mean": 0.03},
    "entropy_surge": {"entropy/mean": 0.9},
    "grad_norm": {"optim/grad_norm": 20.0},
    "repetition": {"response/repetition": 0.4},
    "compression": {"response/compression": 2.5},
    "length_explosion": {"response/length_mean": 80.0},
    "truncation": {"response/truncated_share": 0.6},
    "format_loss": {"reward/format": 0.5},
    "language_mixing": {"response/mixed_script_share": 0.3},
    "blindness": {"blindness/logprob_t_blank": 0.4, "blindness/logprob_t_shuffled": 0.1},
    "mismatch": {"mismatch_kl/mean": 0.1},
}


def series(*parts: tuple[int, Metrics], noise: float = 0.05, seed: int = 0) -> list[Metrics]:
    """So many steps of each kind, every number with multiplicative noise."""
    rng = np.random.default_rng(seed)
    rows = [STEADY | changed for count, changed in parts for _ in range(count)]
    return [{key: value * float(rng.lognormal(0, noise)) for key, value in row.items()} for row in rows]


def alarms(rows: list[Metrics], pack: Pack | None = None) -> list[tuple[int, str]]:
    pack = pack or Pack("grpo")
    return [(step, alarm.name) for step, row in enumerate(rows, start=1) for alarm in pack.see(row)]


def test_the_table_and_the_recipe_name_the_same() -> None:
    assert get_args(Watchdog) == NAMES == tuple(TROUBLE)


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_run_is_left_in_peace(seed: int) -> None:
    assert alarms(series((200, {}), noise=0.06, seed=seed)) == []


@pytest.mark.parametrize("name", NAMES)
def test_trouble_is_barked_at_once(name: str) -> None:
    found = alarms(series((30, {}), (20, TROUBLE[name])))
    assert [who for _, who in found] == [name]
    assert 31 <= found[0][0] <= 34


@pytest.mark.parametrize("name", [name for name in NAMES if name != "grad_norm"])
def test_again_only_after_it_was_over(name: str) -> None:
    rows = series((30, {}), (12, TROUBLE[name]), (12, {}), (12, TROUBLE[name]))
    assert [who for _, who in alarms(rows) if who == name] == [name, name]


@pytest.mark.parametrize("name", [dog.name for dog in WATCHDOGS if dog.smooth > 2])
def test_one_odd_step_is_no_alarm(name: str) -> None:
    assert alarms(series((30, {}), (1, TROUBLE[name]), (20, {}))) == []


def test_nothing_is_judged_during_the_warm_up() -> None:
    truncated = TROUBLE["truncation"]
    assert alarms(series((WARM_UP, truncated))) == []
    assert alarms(series((WARM_UP + 1, truncated))) == [(WARM_UP + 1, "truncation")]


def test_slow_growth_is_no_explosion_and_noise_is_no_fall() -> None:
    growing = [row | {"response/length_mean": 30.0 + step / 3} for step, row in enumerate(series((200, {})))]
    assert alarms(growing) == [], "threefold within 200 steps"
    rng = np.random.default_rng(0)
    loud = [STEADY | {"reward/mean": float(rng.normal(0.6, 0.15))} for _ in range(100)]
    assert alarms(loud) == []


def test_what_is_not_finite_or_not_there_is_no_value() -> None:
    pack = Pack("grpo")
    rows = series((30, {}))
    for row in rows:
        row |= {"reward/mean": math.nan, "optim/grad_norm": math.inf}
        del row["reward/format"]
    assert alarms(rows, pack) == []
    assert pack.state["reward_collapse"]["values"] == pack.state["format_loss"]["values"] == []


def test_thresholds_and_stages() -> None:
    rows = series((30, {}), (20, TROUBLE["truncation"]))
    assert alarms(rows, Pack("grpo", thresholds={"truncation": 0.9})) == []
    assert set(Pack("sft").state) == {"grad_norm", "blindness"}


def test_sight_is_the_better_measure_against_the_worse_rival() -> None:
    metrics = {"blindness/logprob_t_blank": 5.0, "blindness/logprob_t_shuffled": 1.0, "blindness/accuracy_t_blank": 3.0}
    assert sight(metrics) == 3.0
    assert math.isnan(sight({}))
    assert SIGHT not in metrics


@pytest.mark.parametrize("cut", [0, 3, 10, 31, 33, 45, 70])
def test_saved_and_restored_it_barks_as_if_never_stopped(cut: int) -> None:
    """Through JSON, as a checkpoint keeps it: the same alarms with the same numbers, and the same state at the end."""
    everything = {key: value for trouble in TROUBLE.values() for key, value in trouble.items()}
    rows = series((30, {}), (15, everything), (15, {}), (15, everything))

    def run(pack: Pack, part: list[Metrics]) -> list[Alarm]:
        return [alarm for row in part for alarm in pack.see(row)]

    whole, first = Pack("grpo"), Pack("grpo")
    alarms = run(whole, rows)
    before = run(first, rows[:cut])
    again = Pack("grpo", state=json.loads(json.dumps(first.state)))
    assert before + run(again, rows[cut:]) == alarms
    assert again.state == whole.state
    assert len(alarms) > 10


# --- beside a run


def beside(folder: Path, *, step: int = 0, state: Any = None, **config: Any) -> Watchdogs:
    return Watchdogs(folder, WatchdogsConfig(**config), "grpo", state, step)


def test_actions(tmp_path: Path) -> None:
    rows = series((30, {}), (20, TROUBLE["truncation"] | TROUBLE["format_loss"] | TROUBLE["repetition"]))
    watch = beside(tmp_path, actions={"truncation": "stop", "format_loss": "off", "repetition": "checkpoint"})
    saves: list[int] = []
    stops: dict[int, str] = {}
    counted = 0.0
    for step, row in enumerate(rows, start=1):
        counted += watch.measure(step, StepResult(row, None))["watchdogs/alarms"]
        saves += [step] if watch.wants_checkpoint else []
        try:
            watch.after_step(step, last=False)
        except StoppedByWatchdog as stopped:
            stops[step] = str(stopped)
    alarms = read_alarms(tmp_path)
    assert {(a["name"], a["action"]) for a in alarms} == {("truncation", "stop"), ("repetition", "checkpoint")}
    assert set(alarms[0]) == {"step", "name", "value", "threshold", "action", "message"}
    assert counted == len(alarms) == 2
    assert saves == sorted({a["step"] for a in alarms})
    ((step, message),) = stops.items()
    assert [step] == [a["step"] for a in alarms if a["name"] == "truncation"]
    assert "truncation: response/truncated_share is" in message
    assert "watchdogs.actions.truncation=warn" in message


def test_alarms_of_steps_that_are_done_again_are_dropped(tmp_path: Path) -> None:
    watch = beside(tmp_path)
    for step, row in enumerate(series((30, {}), (9, TROUBLE["truncation"])), start=1):
        watch.measure(step, StepResult(row, None))
    (alarm,) = read_alarms(tmp_path)
    beside(tmp_path, step=alarm["step"], state=watch.state()["watchdogs"])
    assert read_alarms(tmp_path) == [alarm]
    beside(tmp_path, step=alarm["step"] - 1, state=watch.state()["watchdogs"])
    assert read_alarms(tmp_path) == []


def test_a_new_run_has_no_old_alarms(tmp_path: Path) -> None:
    (tmp_path / "watchdogs.jsonl").write_text('{"step": 1}\n')
    beside(tmp_path)
    assert not (tmp_path / "watchdogs.jsonl").exists()
