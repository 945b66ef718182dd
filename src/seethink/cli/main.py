"""The commands: one function each, no logic."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from seethink import __version__
from seethink.cli.lab import app as lab
from seethink.cli.verifier import app as verifier
from seethink.cli.world import app as world
from seethink.core.console import console
from seethink.core.errors import UserError, as_user_error

app = typer.Typer(
    help="Post-train vision-language models to reason: cold start, GRPO, connector tuning, and how to tell.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    add_completion=False,
)
app.add_typer(world, name="world")
app.add_typer(verifier, name="verifier")
app.add_typer(lab, name="lab")

Overrides = Annotated[list[str] | None, typer.Argument(help="key=value words that override the recipe.")]


@app.command(epilog="Example: `seethink quickstart --out runs/quickstart`")
def quickstart(
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs and report.html.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
) -> None:
    """The whole pipeline on the nano model, on a CPU, in minutes; ends with a table and a report.

    Called again, it goes on where it stopped. An override for one stage alone is written `grpo:KEY=VALUE`.
    """
    from seethink.report import summary_table
    from seethink.studies.quickstart import run_pipeline

    report = run_pipeline(out, seed, overrides or [])
    console.print(summary_table(out))
    console.print(f"report: {escape(str(report))}", soft_wrap=True)


@app.command(epilog="Example: `seethink train recipes/nano-grpo.toml optim.lr=1e-4 --resume`")
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe.")],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="Resume though this key (or `data`, `model`) has changed.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Train one stage (SFT, GRPO or PPO) as a recipe says.

    Exit code 75: SIGTERM or Ctrl-C stopped the run after it was saved, and --resume goes on. 76: a watchdog
    stopped it (watchdogs.action=stop); it is saved as well.
    """
    from seethink.config import load_recipe

    resolved = load_recipe(recipe, overrides)
    if dry_run:
        console.print_json(data=resolved.as_table())
        return
    from seethink.studies.quickstart import train_stage

    console.print(f"checkpoint: {escape(str(train_stage(resolved, resume=resume, allow=allow or [])))}", soft_wrap=True)


@app.command(epilog="Example: `seethink doctor recipes/nano-grpo.toml model=nano --gpus 8x80 --out doctor.json`")
def doctor(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe.")],
    overrides: Overrides = None,
    data: Annotated[str | None, typer.Option(help="Check this file or folder in place of data.train.")] = None,
    gpus: Annotated[str | None, typer.Option(help="The GPUs of the run, COUNTxGIGABYTES; default: those here.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON report with every bad row.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    ask_verifier: Annotated[bool, typer.Option("--ask-verifier", help="Also ask reward.verifier twice.")] = False,
    step: Annotated[bool, typer.Option("--step/--no-step", help="Try a real forward, backward and rollout.")] = True,
) -> None:
    """Check recipe, model, data, reward, memory and disk before a GPU is used, and say all that is wrong at once.

    Exit code 0: ready (warnings may remain). 1: something failed and must be mended first. 2: the command is wrong.
    """
    from seethink.doctor.run import diagnose
    from seethink.doctor.show import as_json, print_report

    report = diagnose(recipe, overrides or [], data=data, gpus=gpus, ask_verifier=ask_verifier, step=step)
    print_report(report, console, strict=strict)
    if out is not None:
        as_user_error(lambda: out.write_text(as_json(report, strict=strict), encoding="utf-8"))
        console.print(f"report: {escape(str(out))}", soft_wrap=True)
    if report.failed(strict=strict):
        raise typer.Exit(1)


@app.command("eval", epilog="Example: `seethink eval nano --data world:all --size 100 --samples 1`")
def evaluate(
    model: Annotated[str, typer.Argument(help="`nano`, a checkpoint folder, or a hub name.")],
    data: Annotated[str, typer.Option(help="world:DOMAINS, or a JSONL or Parquet path.")] = "world:all",
    size: Annotated[int, typer.Option(help="Items per world domain.", min=1)] = 500,
    samples: Annotated[int, typer.Option(help="k of avg@k at temperature 1; 0 skips it.", min=0)] = 4,
    greedy: Annotated[bool, typer.Option(help="Also decode greedily.")] = True,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 160,
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for eval.json and rollouts.")] = None,
    reading: Annotated[list[str] | None, typer.Argument(help="data.KEY=VALUE words, as in a recipe.")] = None,
) -> None:
    """Accuracy ± standard error of a model, by domain and difficulty."""
    from seethink.config import EvalConfig, RewardConfig, make_reading
    from seethink.data.prompts import PromptList
    from seethink.data.quarantine import FILE, Quarantine
    from seethink.eval.presentation import score_table, write_evaluation
    from seethink.eval.runner import evaluate_modes
    from seethink.eval.tasks.source import load_source_task
    from seethink.generate.make import make_generator
    from seethink.models.load import load_model
    from seethink.rewards.rewarder import Rewarder

    config = EvalConfig(data=data, size=size, samples=samples, greedy=greedy, max_new_tokens=max_new_tokens)
    read, quarantine = make_reading(reading or []), Quarantine(out / "eval" / FILE if out else None)
    loaded = load_model(model)
    task = load_source_task(config, seed, chat=loaded.chat, reading=read, quarantine=quarantine)
    prompts, label = PromptList(task.samples, loaded.chat), Path(model).name
    with Rewarder(RewardConfig()) as rewarder:
        scores = evaluate_modes(task, make_generator(loaded), prompts, rewarder, config, seed=seed, label=label)
    if out is not None:
        write_evaluation(out, task, prompts, scores, label=label, model=loaded.source, seed=seed)
    console.print(score_table(part for score in scores for part in score.parts))


@app.command(epilog="Example: `seethink modes runs/nano-grpo/best --budgets 8,16,32,64 --size 200 --out modes.json`")
def modes(
    model: Annotated[str, typer.Argument(help="`nano`, a checkpoint folder, or a hub name.")],
    data: Annotated[str, typer.Option(help="world:DOMAINS, or a JSONL or Parquet path.")] = "world:all",
    modes: Annotated[str, typer.Option(help="Of slow, nothink, nowait.")] = "slow,nothink,nowait",
    budgets: Annotated[str, typer.Option(help="Thinking tokens, each with the block closed and cut off.")] = "",
    size: Annotated[int, typer.Option(help="Items per domain.", min=1)] = 200,
    samples: Annotated[int, typer.Option(help="Completions per item.", min=1)] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 160,
    answer_tokens: Annotated[int, typer.Option(help="Room for the answer after a closed block.", min=1)] = 32,
    words: Annotated[str, typer.Option(help="What nowait forbids; default log.critical_words.")] = "",
    opening: Annotated[str, typer.Option(help="Begin every nothink response so, e.g. 'The answer is'.")] = "",
    seed: int = 0,
    out: Annotated[Path, typer.Option(help="JSON; finished rows are kept beside it.")] = Path("modes.json"),
    reading: Annotated[list[str] | None, typer.Argument(help="data.KEY=VALUE words, as in a recipe.")] = None,
) -> None:
    """A model's accuracy and length in inference modes and under thinking budgets, on the same items.

    Called again, it goes on where it stopped.
    """
    from seethink.studies.modes.compare_modes import compare_file
    from seethink.studies.modes.inference_modes import make_config
    from seethink.studies.modes.mode_rows import modes_table

    config = make_config(
        modes, budgets, words, samples=samples, max_new_tokens=max_new_tokens, answer_tokens=answer_tokens,
        opening=opening, seed=seed,
    )  # fmt: skip
    console.print(modes_table(compare_file(model, data, size, reading or [], config, out)))
    console.print(f"rows: {escape(str(out))}", soft_wrap=True)


@app.command(epilog="Example: `seethink select runs/nano-grpo --by critical_entropy --export models/nano-chosen`")
def select(
    run: Annotated[Path, typer.Argument(help="A run's folder, or any folder of Hugging Face checkpoints.")],
    by: Annotated[str, typer.Option(help="Criterion that chooses; see docs/selection.md.")] = "critical_entropy",
    data: Annotated[str | None, typer.Option(help="Held-out items; default, for runs on the world: world:all.")] = None,
    in_domain: Annotated[str, typer.Option(help="Domains of the data that were trained on: a,b.")] = "",
    size: Annotated[int, typer.Option(help="Items per domain for the criteria, and as many to judge them.")] = 100,
    samples: Annotated[int, typer.Option(help="Responses per item, at temperature 1.", min=1)] = 2,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 160,
    words: Annotated[str, typer.Option(help="Critical words; default log.critical_words.")] = "",
    export: Annotated[Path | None, typer.Option(help="Folder to write the chosen checkpoint to.")] = None,
    seed: int = 0,
    reading: Annotated[list[str] | None, typer.Argument(help="data.KEY=VALUE words, as in a recipe.")] = None,
) -> None:
    """Rank a run's checkpoints by entropy at critical words, reward, accuracy; how well each tells held-out accuracy.

    Called again, it measures only what is new. Writes select.json into the run's folder.
    """
    from seethink.config import split_names
    from seethink.studies.selection.select_run import select_run, selection_text, settings_of

    settings = settings_of(run, words, samples=samples, max_new_tokens=max_new_tokens, seed=seed)
    domains = split_names(in_domain)
    found = select_run(
        run, settings, by=by, data=data, size=size, in_domain=domains, reading=reading or [], export=export
    )
    console.print(selection_text(found))


@app.command(
    epilog="Example: `seethink hallucination runs/nano-grpo/best --data world:math?image=blank --out said.json`"
)
def hallucination(
    model: Annotated[str, typer.Argument(help="A model, or without --data a run folder with stored rollouts.")],
    data: Annotated[
        str | None, typer.Option(help="world:DOMAINS[?OPTIONS] or a path; default: stored rollouts.")
    ] = None,
    size: Annotated[int, typer.Option(help="Items per domain.", min=1)] = 100,
    samples: Annotated[int, typer.Option(help="Responses per item.", min=1)] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 160,
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Server of an LLM that confirms each statement.")] = None,
    verifier_model: Annotated[str, typer.Option(help="Its model's name.")] = "default",
    reading: Annotated[list[str] | None, typer.Argument(help="data.KEY=VALUE words, as in a recipe.")] = None,
) -> None:
    """How often responses say that the image cannot be seen, their accuracy, and the entropy around it (paper 6.4)."""
    from seethink.config import make_reading
    from seethink.config.verifier import VerifierConfig
    from seethink.core.files import write_json
    from seethink.eval.hallucination import as_record, denial_table
    from seethink.studies.hallucination.responses import measure_hallucination

    judge = VerifierConfig(base_url=base_url, model=verifier_model) if base_url else None
    limits = {"size": size, "samples": samples, "max_new_tokens": max_new_tokens}
    read = make_reading(reading or [])
    findings, about = measure_hallucination(model, data, **limits, seed=seed, reading=read, verifier=judge)
    console.print(denial_table(findings, model))
    if out is not None:
        as_user_error(lambda: write_json(out, as_record(findings, about)))


@app.command(epilog="Example: `seethink entropy runs/nano-grpo/checkpoints/step_000100 --size 200 --out entropy.json`")
def entropy(
    model: Annotated[str, typer.Argument(help="As for eval; or stored results: an entropy.json, or a run's folder.")],
    data: Annotated[str | None, typer.Option(help="As for eval; also the prompts of other trainers' rollouts.")] = None,
    size: Annotated[int, typer.Option(help="Items per domain.", min=1)] = 500,
    samples: Annotated[int, typer.Option(help="Responses per item.", min=1)] = 4,
    words: Annotated[
        str | None, typer.Option(help="Critical words with commas between; default: the recipes'.")
    ] = None,
    window: Annotated[int | None, typer.Option(help="Tokens after a critical word that follow it.", min=1)] = None,
    threshold: Annotated[float | None, typer.Option(help="Nats above which a token is in the tail.", min=0)] = None,
    rollouts: Annotated[Path | None, typer.Option(help="Score these again (JSONL, or a run) in place of new.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 160,
    temperature: Annotated[float, typer.Option(min=0.01)] = 1.0,
    seed: int = 0,
    against: Annotated[Path | None, typer.Option(help="Compare with this entropy.json, or run's folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    reading: Annotated[list[str] | None, typer.Argument(help="data.KEY=VALUE words, as in a recipe.")] = None,
) -> None:
    """Token entropy of a checkpoint at critical words, after them, and by correctness and place: sampled, or of stored
    rollouts scored again. With --against, the differences from another result, with their 95% intervals."""
    from seethink.config import make_reading
    from seethink.studies.entropy.entropy_command import EntropyCommand

    EntropyCommand(
        model, data=data, size=size, samples=samples, words=words, window=window, threshold=threshold,
        rollouts=rollouts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, against=against, out=out,
        reading=make_reading(reading or []),
    ).run()  # fmt: skip


@app.command(epilog="Example: `seethink parts Qwen/Qwen2.5-VL-7B-Instruct --json`")
def parts(
    model: Annotated[str, typer.Argument(help="`nano`, a checkpoint folder (config.json is enough), or a hub name.")],
    recipe: Annotated[Path | None, typer.Option(help="Recipe whose [parts.modules] say where the parts are.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """The model's tree by role (vision, connector, language) with parameter counts, from its configuration alone."""
    from seethink.config import load_recipe
    from seethink.models import describe

    modules = load_recipe(recipe).parts.modules if recipe is not None else None
    found = describe.describe(model, modules=modules)
    if as_json:
        console.print_json(data=describe.as_json(found))
    else:
        console.print(describe.render(found))


@app.command(epilog="Example: `seethink export runs/nano-grpo --out models/nano-reasoner`")
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    checkpoint: Annotated[Path | None, typer.Option(help="This checkpoint instead of the run's last or best.")] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
) -> None:
    """A folder that plain transformers and vLLM load: weights, processor, and a model card with recipe and scores."""
    from seethink.export import export_run

    if dtype not in ("bfloat16", "float16", "float32"):
        raise UserError(f"--dtype {dtype!r}: expected bfloat16, float16 or float32")
    console.print(f"model: {escape(str(export_run(run, out, checkpoint=checkpoint, dtype=dtype)))}", soft_wrap=True)


@app.command(epilog="Example: `seethink report runs/quickstart`")
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run or of a pipeline.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default RUN/report.html.")] = None,
) -> None:
    """One self-contained HTML page: curves, tables, parts, and the rollouts themselves."""
    from seethink.report import write_report

    console.print(f"report: {escape(str(as_user_error(lambda: write_report(run, out))))}", soft_wrap=True)


@app.command(epilog="Example: `seethink grade cases.jsonl --out verdicts.jsonl`")
def grade(
    cases: Annotated[Path, typer.Argument(help="JSONL rows: id, gold, prediction, answer_type?, choices?, expected?")],
    out: Annotated[Path | None, typer.Option(help="JSONL of id, verdict, extracted, reason.")] = None,
) -> None:
    """Grade a file as the reward does; with `expected` in it, accuracy and error rates by type, and the misses."""
    from seethink.rewards.grade_files import grade_file, render

    console.print(render(as_user_error(lambda: grade_file(cases, out))))


def _version(show: bool) -> None:
    if show:
        console.print(f"seethink {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2; a run that was asked to stop has 75, one that a
    watchdog stopped has 76."""
    from seethink.core.exits import EXIT_RESUME, EXIT_WATCHDOG, RunStopped, StoppedByWatchdog

    try:
        app()
    except RunStopped as stopped:
        sys.stderr.write(f"{_printable(str(stopped))}\n")
        sys.exit(EXIT_RESUME)
    except StoppedByWatchdog as stopped:
        sys.stderr.write(f"{_printable(str(stopped))}\n")
        sys.exit(EXIT_WATCHDOG)
    except UserError as error:
        sys.stderr.write(f"error: {_printable(str(error))}\n")
        sys.exit(2)


def _printable(text: str) -> str:
    """No control characters: data and recipes must not drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


if __name__ == "__main__":
    main()
