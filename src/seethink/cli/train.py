"""Commands that train: quickstart, train, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from seethink.cli.options import Seed
from seethink.core.console import console, say
from seethink.core.errors import as_user_error
from seethink.core.exits import RunStopped
from seethink.core.files import claim_file, json_with, write_text

app = typer.Typer()

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value words that override the recipe, e.g. optim.lr=1e-6.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint.")]
Allow = Annotated[
    list[str] | None, typer.Option("--allow", help="Resume even though this key (or `data`, `model`) has changed.")
]


@app.command(epilog="Example: `seethink quickstart --out runs/quickstart`")
def quickstart(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs and report.html.")] = Path("runs/quickstart"),
    seed: Seed = 0,
    world: Annotated[
        int, typer.Option(help="2, or 1: smaller pictures and easier questions, on the first nano.", min=1, max=2)
    ] = 2,
) -> None:
    """Run the whole pipeline on the nano model, on a CPU, in minutes; it ends with a table and a report.

    A second call goes on where the first stopped. An override for one stage alone is written `grpo:KEY=VALUE`.
    """
    from seethink.report import summary_table
    from seethink.studies.quickstart import PIPELINES, run_pipeline

    again = "the same `seethink quickstart` goes on where it stopped"
    try:
        report = run_pipeline(out, seed, overrides or [], PIPELINES[world])
    except RunStopped as stopped:
        raise RunStopped(f"{stopped}: {again}") from None
    except KeyboardInterrupt:
        raise RunStopped(f"stopped outside of training: {again}") from None
    console.print(summary_table(out))
    console.print(f"report: {escape(str(report))}", soft_wrap=True)


@app.command(epilog="Example: `seethink train recipes/nano-grpo.toml optim.lr=1e-4 --resume`")
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe.")],
    overrides: Overrides = None,
    resume: Resume = False,
    allow: Allow = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Train one stage (SFT, GRPO or PPO) as a recipe says.

    Exit code 75: SIGTERM or Ctrl-C stopped the run after it was saved, and --resume continues it. 76: a watchdog
    stopped the run (watchdogs.action=stop), which is saved as well.
    """
    from seethink.config import load_recipe
    from seethink.rewards.function import load_function

    resolved = load_recipe(recipe, overrides)
    if resolved.reward.function is not None:  # before a run folder is made
        load_function(resolved.reward.function, recipe.parent)
    if dry_run:
        console.print_json(data=resolved.as_table())
        return
    from seethink.train.start import train as run_recipe

    if resolved.eval.data is not None and resolved.eval.every == 0:
        console.print("eval.every is 0: [eval] is not used during training", style="yellow", markup=False)
    try:
        last = run_recipe(resolved, resume=resume, allow=allow or [], function_folder=recipe.parent)
    except RunStopped as stopped:
        if stopped.finished is None:
            raise
        # Nothing was to follow here, so nothing is left to resume.
        say(str(stopped))
        last = stopped.finished
    console.print(f"checkpoint: {escape(str(last))}", soft_wrap=True)


@app.command(
    epilog="Example: `seethink launch recipes/nano-grpo.toml cluster.trainers=2`; with a vLLM server: "
    "`seethink launch recipes/nano-grpo.toml rollout.engine=vllm vllm.python=.venv-vllm/bin/python`"
)
def launch(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe; its [cluster] says how many processes.")],
    overrides: Overrides = None,
    resume: Resume = False,
    allow: Allow = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Place them on a Ray cluster: HOST:PORT, `auto` (that of this machine) or `local` (one for this run).",
        ),
    ] = None,
) -> None:
    """Train one stage on several processes of this machine or of a Ray cluster, and go on where one of them dies.

    With rollout.engine=vllm it starts the vLLM servers too, on this machine, unless vllm.urls names some.

    Exit codes are those of `seethink train`.
    """
    from seethink.config import load_recipe
    from seethink.dist.placing import launch_recipe

    resolved = load_recipe(recipe, overrides)
    words = [str(recipe), *(overrides or []), *(["--resume"] if resume else [])]
    words += [word for key in allow or [] for word in ("--allow", key)]
    code = launch_recipe(resolved, words, ray=ray)
    if code:
        raise typer.Exit(code)


@app.command(epilog="Example: `seethink doctor recipes/nano-grpo.toml model=nano --gpus 8x80 --out doctor.json`")
def doctor(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe.")],
    overrides: Overrides = None,
    data: Annotated[str | None, typer.Option(help="Check this file or folder in place of data.train.")] = None,
    gpus: Annotated[
        str | None, typer.Option(help="The GPUs of the run, COUNTxGIGABYTES; default: this machine's.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON report with every bad row.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    ask_verifier: Annotated[
        bool, typer.Option("--ask-verifier", help="Also send reward.verifier two questions.")
    ] = False,
    step: Annotated[bool, typer.Option("--step/--no-step", help="Try a real forward, backward and rollout.")] = True,
    shapes_only: Annotated[
        bool, typer.Option("--shapes-only", help="Only parts and memory, from the recipe and the model's config.json.")
    ] = False,
) -> None:
    """Check recipe, model, data, reward, memory and disk before a GPU is used, and report every problem at once.

    Exit code 0: ready (warnings may remain). 1: a check failed and needs a fix first. 2: the command is wrong.
    """
    from seethink.doctor.run import diagnose
    from seethink.doctor.show import as_json, print_report

    if out is not None:
        claim_file(out, json_with("seethink", "checks"), "a report of `seethink doctor`")
    report = diagnose(
        recipe, overrides or [], data=data, gpus=gpus, ask_verifier=ask_verifier, step=step, shapes_only=shapes_only
    )
    print_report(report, console, strict=strict)
    if out is not None:
        as_user_error(lambda: write_text(out, as_json(report, strict=strict)))
        console.print(f"report: {escape(str(out))}", soft_wrap=True)
    if report.failed(strict=strict):
        raise typer.Exit(1)
