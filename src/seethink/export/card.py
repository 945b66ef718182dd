"""The model card: what was trained, on what, with which recipe, and how it scored."""

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
    """Write README.md. What comes from recipes and data sets is shown as text, without secrets."""
    environment = Environment(
        autoescape=False, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, finalize=_plain
    )
    template = (files("seethink.export") / "card.md.j2").read_text(encoding="utf-8")
    base = _line(lineage.get("from") or stage.recipe.get("model") or "unknown")
    text = environment.from_string(template).render(
        name=name,
        base=base,
        # A path of this machine is no name of a model.
        hub_base=base if base.count("/") == 1 and not Path(base).exists() and not base.startswith(".") else None,
        version=__version__,
        step=lineage.get("step"),
        stage=stage.recipe.get("stage") or stage.kind,
        parts=part_rows(stage),
        data=stage.data,
        source=_line(stage.recipe.get("data", {}).get("train", "unknown")),
        dropped=dropped,
        scores=[score for score in stage.scores if score.difficulty == "all"],
        recipe=_recipe(stage),
        quoted=json.dumps,
    )
    path.write_text(text, encoding="utf-8")


def _recipe(stage: Stage) -> str:
    """Without the keys that are unset, which TOML cannot say, and without the run's own folder."""
    return "\n".join(
        line
        for line in recipe_lines(stage).splitlines()
        if not line.endswith("= null") and not line.startswith("out =")
    )


def _line(value: Any) -> str:
    """One line, whatever it was."""
    return redact_text(" ".join(str(value).split()))


def _plain(value: Any) -> Any:
    """No markup and no fence may come out of a value."""
    return visible(value).replace("```", "'''").replace("|", "\\|") if isinstance(value, str) else value
