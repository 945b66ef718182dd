"""Experiments and plans as tables for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from seethink.studies.lab.plan import Plan
from seethink.studies.lab.scales import find_scale, why_left_out
from seethink.studies.lab.scheduler import is_finished, wall_seconds
from seethink.studies.lab.schema import MARK, load_experiments


def list_table(scale: str) -> Table:
    """What cannot run at the scale says why."""
    table = Table("name", "§", "what", "claims", title="Experiments", caption=f"{MARK} primary claims")
    for experiment in load_experiments().values():
        why = why_left_out(experiment, find_scale(scale))
        claims = Text("\n".join(f"{claim.marked} ({claim.paper})" for claim in experiment.claims))
        title = Text(experiment.title + (f"\nleft out: {why}" if why else ""))
        table.add_row(experiment.name, experiment.section, title, claims, end_section=True)
    return table


def plan_table(plan: Plan, cores: int) -> Table:
    """Every distinct arm once, with its seconds for one seed; the caption has the totals over all seeds."""
    done = {key for key, job in plan.jobs.items() if is_finished(job)}
    table = Table("stage", "serves", title=f"Plan at scale {plan.scale_name}, core-seconds per seed")
    for heading in ("train", "measure", "done"):
        table.add_column(heading, justify="right")
    for job in plan.jobs.values():
        if job.seed == plan.seeds.start and (job.recipe is not None or job.measurements):
            finished = sum(plan.jobs[key].names == job.names for key in done)
            measured = sum(plan.measure_seconds(job).values())
            cells = (f"{job.train_s:.0f}", f"{measured:.0f}", f"{finished} of {len(plan.seeds)}")
            table.add_row(job.stage or job.model or "parts", Text(_served(job.names)), *cells)
    left = [job for key, job in plan.jobs.items() if key not in done]
    total = sum(map(plan.seconds, left))
    hours = wall_seconds(plan, done, cores) / 3600
    table.caption = (
        f"{len(plan.jobs)} jobs with {len(plan.seeds)} seeds, {len(left)} to do: {total:,.0f} core-seconds, "
        f"about {hours:.2f} hours on {cores} cores"
    )
    return table


def _served(names: set[str]) -> str:
    """The first two arms by name, and the number of others."""
    first = sorted(names)[:2]
    return ", ".join(first) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
