"""One self-contained HTML page out of a run folder.

The page asks nothing of the network and runs one script. Text from models, data sets and recipes is
untrusted: the template escapes it, and the viewer's data is JSON in a script element that never runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from seethink.core.files import claim_file, write_text
from seethink.core.redact import redact, redact_text
from seethink.report import curves, figures, scores
from seethink.report.alarms import alarms
from seethink.report.blindness import sight
from seethink.report.denials import denial_rows
from seethink.report.dynamics import entropy_figures
from seethink.report.html import asset, embed, environment, policy
from seethink.report.load import Run, Stage, load_run, number
from seethink.report.modes import modes
from seethink.report.rollouts import Rollouts, collect
from seethink.report.selection import selection
from seethink.report.story import story

STYLES = ("report.css", "charts.css", "viewer.css")
SCRIPTS = ("data", "filters", "link", "list", "detail", "compare", "main", "keys")
"""The viewer, one script out of these files: what stands in an earlier one is known to the later."""
TITLES = {"base": "Base model", "cold-start": "Cold start", "cold_start": "Cold start", "grpo": "GRPO"}


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write one self-contained HTML page of a run: curves, tables, parts, and the rollouts themselves.

    Args:
        run: Folder of a run, or of a pipeline of several stages.
        out: File to write; by default `report.html` in the folder.

    Returns:
        The file that was written.

    Raises:
        ValueError: The folder holds no run, or the file is there and is no report.
        OSError: The file cannot be written.
    """
    loaded = load_run(Path(run))
    target = Path(out) if out is not None else Path(run) / "report.html"
    claim_report(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, render(loaded, collect(loaded)))
    return target


def claim_report(path: Path) -> None:
    """Raises UserError where no report can be written, or where something else would be replaced."""

    def is_report(file: Path) -> bool:
        with file.open("rb") as opened:
            return b"seethink report</title>" in opened.read(1 << 16)

    claim_file(path, is_report, "a report of `seethink report`")


def render(run: Run, rollouts: Rollouts) -> str:
    """The page's text."""
    pages = environment()
    pages.filters["duration"] = figures.duration
    style, script = asset(*STYLES), asset(*(f"viewer/{name}.js" for name in SCRIPTS))
    return pages.get_template("report.html.j2").render(
        run=run,
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        data=Markup(embed(rollouts.data())),
        rollouts=rollouts,
        sentences=_sentences(run),
        facts=_facts(run),
        story=story(run, rollouts),
        accuracy=_accuracy(run),
        denials=denial_rows(rollouts),
        modes=modes(run.modes),
        stages=[_stage(stage) for stage in run.stages if stage.kind != "none" or stage.data or stage.modes],
        times=figures.time_rows(run),
        recipes=[(stage.name, recipe) for stage in run.stages if (recipe := recipe_lines(stage))],
        versions=_versions(run),
        command=redact_text(str(run.facts.get("command") or "")),
    )


def recipe_lines(stage: Stage) -> str:
    """The recipe as `dotted.key = value` lines, in its own order, without secrets."""
    return "\n".join(_lines("", redact(stage.recipe)))[:200_000]


def _lines(prefix: str, value: Any) -> list[str]:
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _lines(f"{prefix}.{key}" if prefix else key, item)]
    return [f"{prefix} = {json.dumps(value, ensure_ascii=False)}"] if prefix else []


def _sentences(run: Run) -> list[str]:
    found = scores.accuracy_sentences(run)
    found += [run.note] if found and run.note else []
    found = found or [sentence for stage in run.stages if (sentence := _training_sentence(stage))]
    return found or ["This run has recorded neither an evaluation nor any training step."]


def _training_sentence(stage: Stage) -> str | None:
    key, word = ("reward/mean", "mean reward") if stage.kind == "rl" else ("loss/total", "training loss")
    values = [value for _, value in stage.points(key)]
    if len(values) < 2:
        return None
    span = max(1, min(5, len(values) // 4))
    ends = sum(values[:span]) / span, sum(values[-span:]) / span
    verb = "rises" if ends[1] > ends[0] else "falls"
    over = f" (means of the first and last {span} steps)" if span > 1 else ""
    start = f"Over {len(stage.metrics):,} steps of {stage.name}, {word} {verb}"
    return f"{start} from {ends[0]:.3g} to {ends[1]:.3g}{over}."


def _facts(run: Run) -> list[tuple[str, str]]:
    """What stands under the title: model, seed, time, machine."""
    recipe = next((stage.recipe for stage in run.stages if stage.recipe), {})
    model = recipe.get("model")
    named = model.get("path") or model.get("name") if isinstance(model, dict) else model
    seconds = number(run.facts.get("seconds"))
    pairs = [
        ("Model", named),
        ("Seed", recipe.get("seed")),
        ("Time", None if seconds is None else figures.duration(seconds)),
        ("Machine", run.facts.get("machine")),
    ]
    return [(label, redact_text(str(value))) for label, value in pairs if value is not None]


def _versions(run: Run) -> list[tuple[str, str]]:
    versions = run.facts.get("versions")
    return [(str(key), str(value)) for key, value in versions.items()] if isinstance(versions, dict) else []


def _accuracy(run: Run) -> dict[str, Any] | None:
    """The accuracy section: the figure, the stage table, and one row a domain."""
    mode, groups = scores.main_mode(run), scores.domain_groups(run)
    if mode is None:
        return None
    by_stage = [
        (stage.name, [scores.mean_score(stage, names, mode) for names in groups.values()]) for stage in run.stages
    ]
    return {
        "mode": mode,
        "figure": figures.accuracy_figure(run),
        "groups": list(groups.items()),
        "by_stage": by_stage,
        "by_domain": [_domain_row(run, name, mode) for name in scores.domains(run)],
        "all": [(stage.name, score) for stage in run.stages for score in stage.scores],
    }


def _domain_row(run: Run, domain: str, mode: str) -> dict[str, Any]:
    row = [scores.domain_score(stage, domain, mode) for stage in run.stages]
    best = max((score.accuracy for score in row if score), default=None)
    sizes = {score.n for score in row if score}
    return {
        "name": domain,
        "inside": domain in run.in_domain,
        "scores": row,
        "best": best if len(run.stages) > 1 else None,
        "n": sizes.pop() if len(sizes) == 1 else None,
    }


def _stage(stage: Stage) -> dict[str, Any]:
    drawn, missing = curves.stage_figures(stage)
    return {
        "name": stage.name,
        "title": TITLES.get(stage.name, stage.name[:1].upper() + stage.name[1:]),
        "kind": {"rl": "reinforcement learning", "sft": "supervised fine-tuning"}.get(stage.kind, ""),
        "steps": len(stage.metrics),
        "sentence": _training_sentence(stage),
        "figures": drawn,
        "missing": missing,
        "entropy": entropy_figures(stage),
        "alarms": alarms(stage),
        "selection": selection(stage.selection),
        "modes": modes(stage.modes),
        "sight": sight(stage),
        "parts": figures.part_rows(stage),
        "dropped": figures.dropped(stage),
    }
