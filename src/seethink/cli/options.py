"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from seethink.core.arguments import SEEDS

Seed = Annotated[int, typer.Option(help="Of everything random.", min=0, max=SEEDS - 1, metavar="INTEGER")]
Tool = Annotated[
    str | None,
    typer.Option("--environment", help="A tool that the model may call: calculator, zoom (docs/tools.md)."),
]
RecipeWords = Annotated[list[str] | None, typer.Argument(help="data.KEY=VALUE and reward.KEY=VALUE, as in a recipe.")]
