"""`[blindness]` and `[watchdogs]`: what warns of a run that goes wrong, and stops it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seethink.config.section import Section

Watchdog = Literal[
    "reward_collapse", "entropy_collapse", "entropy_surge", "grad_norm", "repetition", "compression",
    "length_explosion", "truncation", "format_loss", "language_mixing", "blindness", "mismatch",
]  # fmt: skip
WatchdogAction = Literal["off", "warn", "checkpoint", "stop"]


class BlindnessConfig(Section):
    """Held-out samples with their true picture, a blank one and a wrong one: see train/hooks/blindness.py."""

    every: int = Field(
        50, ge=0, description="Steps between checks, besides one before step 1, where SFT only warns; 0: no guard."
    )
    samples: int = Field(64, gt=1, description="Held-out samples with images; from data.val, else not trained on.")
    action: Literal["stop", "warn"] = Field(
        "stop", description="Where the image does not matter. Pixels lost on the way always stop the run."
    )


class WatchdogsConfig(Section):
    """Alarms from the metrics of a run that goes wrong; docs/watchdogs.md has how good they are."""

    action: WatchdogAction = Field(
        "warn", description="On an alarm: warn, warn and save a checkpoint, or save and stop with exit code 76."
    )
    actions: dict[Watchdog, WatchdogAction] = Field({}, description='By watchdog, e.g. { reward_collapse = "stop" }.')
    thresholds: dict[Watchdog, float] = Field({}, description="In place of the defaults, e.g. { truncation = 0.5 }.")
