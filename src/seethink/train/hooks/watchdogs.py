"""Watchdogs beside a run: alarms go to the terminal and to `watchdogs.jsonl`, and may save or stop the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seethink.config import WatchdogAction, WatchdogsConfig
from seethink.core.console import say
from seethink.core.exits import StoppedByWatchdog
from seethink.runs.metrics import append_line, keep_steps
from seethink.runs.reading import read_steps
from seethink.train.hook import Hook
from seethink.train.hooks.watchdog_rules import Alarm, Pack
from seethink.train.step import StepResult

FILE = "watchdogs.jsonl"


class Watchdogs(Hook):
    """The watchdogs of one run. They judge all metrics of a step, so they stand behind the hooks that measure."""

    def __init__(
        self, folder: Path, config: WatchdogsConfig, stage: str, state: Mapping[str, Any] | None, step: int
    ) -> None:
        """`state` is what a checkpoint of step `step` keeps; none for a new run."""
        self._path, self._config = folder / FILE, config
        self._pack = Pack(stage, thresholds=dict(config.thresholds.items()), state=state)
        self._asked: dict[WatchdogAction, list[Alarm]] = {}
        # Alarms of later steps are those of steps that are done again.
        keep_steps(self._path, step)

    def state(self) -> dict[str, Any]:
        return {"watchdogs": self._pack.state}

    def measure(self, step: int, result: StepResult) -> dict[str, float]:
        """How many alarms the step's metrics raise."""
        self._asked = {}
        for alarm in self._pack.see(result.metrics):
            action = self._action(alarm.name)
            if action != "off":
                self._asked.setdefault(action, []).append(alarm)
                self._raise(step, alarm, action)
        return {"watchdogs/alarms": float(sum(map(len, self._asked.values())))}

    @property
    def wants_checkpoint(self) -> bool:  # type: ignore[override]
        return "checkpoint" in self._asked or "stop" in self._asked

    def after_step(self, step: int, *, last: bool) -> None:
        """Raises StoppedByWatchdog after a step with an alarm whose action is `stop`; the step has been saved."""
        if last:
            return
        if alarms := self._asked.get("stop"):
            reasons = "; ".join(f"{alarm.name}: {alarm.message}" for alarm in alarms)
            raise StoppedByWatchdog(
                f"stopped by a watchdog after step {step}, which is saved: {reasons}. --resume goes on all the same; "
                f"`watchdogs.actions.{alarms[0].name}=warn` does not stop for it"
            )

    def _action(self, name: str) -> WatchdogAction:
        actions: dict[str, WatchdogAction] = dict(self._config.actions.items())
        return actions.get(name, self._config.action)

    def _raise(self, step: int, alarm: Alarm, action: WatchdogAction) -> None:
        say(f"WATCHDOG {alarm.name}, step {step}: {alarm.message} ({action})", "bold yellow")
        record = {
            "step": step, "name": alarm.name, "value": alarm.value, "threshold": alarm.threshold, "action": action,
            "message": alarm.message,
        }  # fmt: skip
        append_line(self._path, record)


def read_alarms(folder: Path) -> list[dict[str, Any]]:
    """The alarms of a run in their order; damaged lines are named and left out."""
    return read_steps(folder / FILE)
