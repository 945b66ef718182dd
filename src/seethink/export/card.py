"""The model card: what was trained, on which data, with which recipe, and how it scored."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from seethink.core.redact import redact_text, visible
from seethink.core.version import __version__
from seethink.report.figures import part_rows
from seethink.report.load import Stage
from seethink.report.page import recipe_lines


def write_card(path: Path, name: str, stage: Stage, lineage: dict[str, Any], *, dropped: dict[str, int]) -> None:
    """Write the card to `path`. Text from recipes and data sets stays text, and secrets are left out."""
    environment = Environment(
        autoescape=False, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=_plain
    )
    template = (files("seethink.export") / "card.md.j2").read_text(encoding="utf-8")
    base = _line(lineage.get("from") or stage.recipe.get("model") or "unknown")
    text = environment.from_string(template).render(
        name=name,
        base=base,
        # A local path is not the name of a model on a hub.
        hub_base=base if base.count("/") == 1 and not Path(base).exists() and not base.startswith(".") else None,
        version=__version__,
        step=lineage.get("step"),
        stage=stage.recipe.get("stage") or stage.kind,
        parts=part_rows(stage),
        data=_counts(stage.data),
        source=_line(_source(stage.recipe.get("data"))),
        dropped=dropped,
        scores=[score for score in stage.scores if score.difficulty == "all"],
        recipe=_recipe(stage),
        quoted=json.dumps,
    )
    path.write_text(text, encoding="utf-8")


def _counts(data: dict[str, Any]) -> dict[str, Any]:
    """The whole numbers of data.json, which may have been edited."""
    dropped = data.get("dropped")
    known = {"dropped": {k: v for k, v in dropped.items() if type(v) is int}} if isinstance(dropped, dict) else {}
    return known | {key: data[key] for key in ("kept", "read") if type(data.get(key)) is int}


def _recipe(stage: Stage) -> str:
    """The recipe as TOML, without the keys that are unset (TOML has no null) and without the run's own folder."""
    return "\n".join(
        line
        for line in recipe_lines(stage).splitlines()
        if not line.endswith("= null") and not line.startswith("out =")
    )


def _source(data: Any) -> Any:
    return data.get("train", "unknown") if isinstance(data, dict) else "unknown"


def _line(value: Any) -> str:
    """The value on one line, without secrets."""
    return redact_text(" ".join(str(value).split()))


def _plain(value: Any) -> Any:
    """A value must not close a code fence or add a column to a table."""
    return visible(value).replace("```", "'''").replace("|", "\\|") if isinstance(value, str) else value
