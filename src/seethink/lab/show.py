"""Experiments and plans as tables for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from seethink.lab.plan import Plan, missing_models
from seethink.lab.run import is_finished, wall_seconds
from seethink.lab.schema import load_experiments


def list_table() -> Table:
    table = Table("name", "§", "what", "claims", title="Experiments")
    for experiment in load_experiments().values():
        lacking = missing_models(experiment)
        claims = Text("\n".join(f"{claim.text} ({claim.paper})" for claim in experiment.claims))
        title = Text(experiment.title + (f"\nneeds the base model {lacking[0]}" if lacking else ""))
        table.add_row(experiment.name, experiment.section, title, claims, end_section=True)
    return table


def plan_table(plan: Plan, cores: int) -> Table:
    """Every distinct arm once, with its seconds; the caption adds them up."""
    done = {key for key, job in plan.jobs.items() if is_finished(job)}
    table = Table("arm", "serves", "train s", "measure s", "done", title=f"Plan at scale {plan.scale_name}")
    for job in plan.jobs.values():
        if job.seed == 0:
            measures = ", ".join(f"{name} {plan.scale.seconds[name]:.0f}" for name in job.measures)
            mark = f"{sum(_same_arm(plan, job.names, key) for key in done)} of {plan.seeds}"
            table.add_row(job.label, Text(", ".join(sorted(job.names))), f"{job.train_s:.0f}", measures, mark)
    left = [job for key, job in plan.jobs.items() if key not in done]
    total = sum(map(plan.seconds, left))
    hours = wall_seconds(plan, done, cores) / 3600
    table.caption = (
        f"{len(plan.jobs)} jobs with {plan.seeds} seeds, {len(left)} to do: {total:,.0f} core-seconds, "
        f"about {hours:.2f} hours on {cores} cores"
    )
    return table


def _same_arm(plan: Plan, names: set[str], key: str) -> bool:
    return plan.jobs[key].names == names
