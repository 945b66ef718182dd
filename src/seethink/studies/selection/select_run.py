"""`seethink select`: find a run's checkpoints, measure and rank them, write select.json, export the chosen one."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from seethink.config import EvalConfig, LogConfig, RewardConfig, make_reading, make_reward, split_names
from seethink.core.errors import UserError, as_user_error
from seethink.core.files import claim_file, json_with, refuse_full_folder, write_json
from seethink.core.statistics import Interval
from seethink.core.types import Sample
from seethink.eval.tasks.source import load_source_task
from seethink.report.load import number
from seethink.runs.metrics import read_metrics
from seethink.runs.reading import read_key, read_recipe
from seethink.studies.measurement_cache import MeasurementCache
from seethink.studies.selection.checkpoints import (
    CheckpointSettings,
    find_checkpoints,
    load_checkpoint,
    measure_checkpoints,
)
from seethink.studies.selection.ranking import METRICS, Scored, Selection, refuse_unknown, select
from seethink.world.make import all_domains, is_world, parse_source

FILE, CACHE = "select.json", "select.parts"
NAME_WIDTH = 14
"""Columns of the terminal that a checkpoint's name keeps before it is folded."""
NOT_MODEL = shutil.ignore_patterns("*.pt", "*.pth", "*.bin", "*.pkl", "train_state", "global_step*", "manifest.json")
"""Files that trainers keep in a checkpoint besides the model."""


def select_run(
    run: Path,
    settings: CheckpointSettings,
    *,
    by: str,
    data: str | None,
    size: int,
    in_domain: Sequence[str],
    words: Sequence[str] = (),
    export: Path | None = None,
) -> Selection:
    """Measure and rank the checkpoints of `run` on 2 * `size` items per domain, and write select.json.

    `words` are `data.KEY=VALUE` and `reward.KEY=VALUE`; without the latter, the run's own reward grades.

    Raises UserError where there is nothing to rank, or `by` cannot choose.
    """
    refuse_unknown(by)
    folders, recipe = find_checkpoints(run), read_recipe(run)
    claim_file(run / FILE, json_with("criteria", "targets"), "a result of `seethink select`", "RUN/")
    if export is not None:
        refuse_full_folder(export, "--export")
    trained_on = read_key(run, "data", "train", str) or ""
    source = data or read_key(run, "eval", "data", str) or (all_domains(trained_on) if is_world(trained_on) else None)
    if source is None:
        raise UserError("--data is needed: held-out questions with answers, a JSONL or Parquet file or world:DOMAINS")
    read, reward = make_reading(words), _reward(recipe, words)
    if read.image_limits:
        raise UserError("a checkpoint's own processor says how many tokens an image takes: leave data.image_* out")
    chat = load_checkpoint(run, folders[0]).chat
    task = load_source_task(EvalConfig(data=source, size=2 * size), settings.seed, chat=chat, reading=read)
    inside = trained_domains(task.samples, in_domain, trained_on)
    estimates, threshold = measure_checkpoints(run, folders, task, settings, MeasurementCache(run / CACHE), reward)
    lines = read_metrics(run)
    rewards = {
        name: {line["step"]: line[key] for line in lines if number(line.get(key)) is not None}
        for name, key in METRICS.items()
    }
    selection = select(estimates, task.samples, inside, rewards, by=by, seed=settings.seed)
    about = {"run": str(run), "data": source, "size": size, **asdict(settings), "threshold": threshold}
    write_json(run / FILE, about | {"in_domain": inside} | selection.as_json())
    if export is not None:
        export_checkpoint(run, run / selection.chosen, export)
    return selection


def _reward(recipe: dict[str, Any], words: Sequence[str]) -> RewardConfig:
    """As in the run's recipe, without its verifier, whose server need not be there any more."""
    saved = recipe.get("reward")
    saved = {key: value for key, value in saved.items() if key != "verifier"} if isinstance(saved, dict) else {}
    return make_reward(words, saved)


def settings_of(run: Path, words: str, **settings: Any) -> CheckpointSettings:
    """Settings from the command line; critical words from `words`, else from the run's recipe."""
    stored = read_key(run, "log", "critical_words", tuple[str, ...])
    return CheckpointSettings(words=split_names(words) or stored or LogConfig().critical_words, **settings)


def trained_domains(samples: Sequence[Sample], named: Sequence[str], trained_on: str) -> list[str]:
    """The domains of the data that the run was trained on: the `named` ones, else those in the recipe of a world run.

    Raises UserError where a named domain is unknown, or where the domains cannot be told.
    """
    domains = list(dict.fromkeys(s.domain for s in samples))
    wanted = list(named) or (
        list(parse_source(trained_on)[0]) if is_world(trained_on) else domains[: len(domains) == 1]
    )
    inside = [domain for domain in domains if domain in wanted]
    unknown = [domain for domain in named if domain not in domains]
    if unknown or not inside:
        shown = ", ".join(domains)
        raise UserError(
            f"--in-domain {unknown[0]}: the data has only {shown}"
            if unknown
            else f"the data has the domains {shown}; say which the run was trained on: --in-domain {domains[0]}"
        )
    return inside


def export_checkpoint(run: Path, checkpoint: Path, out: Path) -> None:
    """Write a folder for transformers and vLLM.

    A run of seethink gets a model card; of another trainer's checkpoint the model files are copied.
    """
    if (run / "recipe.json").is_file():
        from seethink.export import export_run

        export_run(run, out, checkpoint=checkpoint)
    else:
        as_user_error(lambda: shutil.copytree(checkpoint, out, ignore=NOT_MODEL, dirs_exist_ok=True))


def selection_text(selection: Selection) -> Group:
    """For the terminal: the ranking by the chosen criterion, what the other criteria choose, and correlations."""
    return Group(_ranking(selection), _choices(selection), _correlation_table(selection), Text(verdict(selection)))


def _ranking(selection: Selection) -> Table:
    """Checkpoints by the chosen criterion, best first."""
    by = selection.criteria[selection.by]
    table = _table(
        "checkpoint", f"Checkpoints by {selection.by}, with 95% intervals", [by.name, "n", "best in"], selection
    )
    for checkpoint in sorted(by.values, key=by.better)[::-1]:
        cells = (_cell(by, checkpoint), str(by.values[checkpoint].n), f"{by.best_share[checkpoint]:.0%}")
        table.add_row(escape(_short(checkpoint, selection)), *cells, *_targets(selection, checkpoint))
    return table


def _choices(selection: Selection) -> Table:
    """Which checkpoint each criterion chooses, and its score."""
    table = _table("criterion", "What each criterion chooses", ["chooses", "value", "best in"], selection)
    for scored in selection.criteria.values():
        chosen = scored.chosen
        if chosen is None:
            table.add_row(scored.name, "not measured")
            continue
        cells = (escape(_short(chosen, selection)), _cell(scored, chosen), f"{scored.best_share[chosen]:.0%}")
        table.add_row(scored.name, *cells, *_targets(selection, chosen))
    return table


def _table(first: str, title: str, headings: Sequence[str], selection: Selection) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    targets = [f"held out, {target.replace('_', '-')}, %" for target in selection.targets]
    names = max(len(_short(name, selection)) for name in selection.criteria[selection.by].values)
    for heading in (first, *headings, *targets):
        # A name that is cut off looks like another checkpoint's: it is folded, and the numbers are the first to wrap.
        is_name = heading in ("checkpoint", "chooses")
        width = min(names, NAME_WIDTH) if is_name else None
        right = not is_name and heading != first
        table.add_column(heading, justify="right" if right else "left", overflow="fold", min_width=width)
    return table


def _short(name: str, selection: Selection) -> str:
    """A checkpoint's name without the folders that all of them lie in, and without those that all end with."""
    parts = [Path(other).parts for other in selection.criteria[selection.by].values]
    most = min(map(len, parts)) - 1
    above = next((i for i in range(most) if len({own[i] for own in parts}) > 1), most)
    below = next((i for i in range(most - above) if len({own[-1 - i] for own in parts}) > 1), most - above)
    own = Path(name).parts
    return "/".join(own[above : len(own) - below])


def _targets(selection: Selection, checkpoint: str) -> list[str]:
    return [_cell(target, checkpoint) for target in selection.targets.values()]


def _cell(scored: Scored, checkpoint: str) -> str:
    value = scored.values[checkpoint]
    if scored.name == "last":
        return f"step {value.value:.0f}"
    share = scored.name.endswith(("accuracy", "domain", "share"))
    return _interval(value, 100 if share else 1, 1 if share else 3)


def _interval(found: Interval, scale: float = 1, digits: int = 2) -> str:
    if not math.isfinite(found.value):
        return "-"
    if not math.isfinite(found.low):
        return f"{scale * found.value:.{digits}f} (?)"
    value, low, high = (f"{scale * number:.{digits}f}" for number in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def _correlation_table(selection: Selection) -> Table:
    table = Table("criterion", title="Correlation with held-out accuracy over the checkpoints")
    for heading in ("held out", "Pearson", "Spearman", "n"):
        table.add_column(heading, justify="right")
    for c in selection.correlations:
        names = (c.criterion.replace("_", " "), c.target.replace("_", "-"))
        table.add_row(*names, _interval(c.pearson), _interval(c.spearman), str(c.pearson.n))
    return table


def verdict(selection: Selection) -> str:
    """Whether the criteria agree, and what was chosen."""
    chosen = {scored.chosen for scored in selection.criteria.values() if scored.chosen is not None}
    agree = "all criteria agree" if len(chosen) == 1 else f"the criteria disagree: {len(chosen)} different choices"
    return f"chosen by {selection.by}: {selection.chosen} ({agree})"
