"""Commands that measure a model: eval, modes, select, entropy, hallucination."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from seethink.cli.bench import BenchOptions, evaluate_benchmarks
from seethink.cli.options import RecipeWords, Seed, Tool
from seethink.core.console import console
from seethink.core.errors import UserError, as_user_error

if TYPE_CHECKING:
    from seethink.config import ToolConfig

app = typer.Typer()


_BENCH = "Benchmarks"


@app.command(
    "eval",
    epilog="Example: `seethink eval nano --data world:all --size 100 --samples 1`; "
    "`seethink eval runs/nano-zoom-grpo/best --data world:zoom --environment zoom`; "
    "`seethink eval models/mine --bench logicvista,wemath --data benchmarks --runs 2 --limit 100`; "
    "`seethink eval --server http://127.0.0.1:8000/v1 --model NAME --bench paper --data benchmarks`; "
    "`seethink eval --compare evals/a evals/b`",
)
def evaluate(
    model: Annotated[str | None, typer.Argument(help="`nano`, a checkpoint folder, or a hub name.")] = None,
    data: Annotated[
        str | None,
        typer.Option(help="world:DOMAINS, or a JSONL or Parquet path; default: world:all. With --bench their folder."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Items per domain; default: all of a file, 500 per domain of the world.", min=1)
    ] = None,
    samples: Annotated[int, typer.Option(help="k of avg@k at temperature 1; 0 skips it.", min=0)] = 4,
    greedy: Annotated[bool, typer.Option(help="Also decode greedily.")] = True,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Longest response; default: 160, or the protocol's.", min=1)
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; with --bench: evals/MODEL.")] = None,
    environment: Tool = None,
    turns: Annotated[int | None, typer.Option(help="With --environment: most turns of the model.")] = None,
    turn_tokens: Annotated[int | None, typer.Option(help="With --environment: longest turn.")] = None,
    bench: Annotated[
        str | None, typer.Option(help="Names of `seethink bench list`, `paper` or `all`.", rich_help_panel=_BENCH)
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="paper: temperature 1.0, 5 runs, 16,384 tokens; or greedy.", rich_help_panel=_BENCH)
    ] = "paper",
    runs: Annotated[int | None, typer.Option(help="k of avg@k.", min=1, rich_help_panel=_BENCH)] = None,
    temperature: Annotated[float | None, typer.Option(min=0, rich_help_panel=_BENCH)] = None,
    limit: Annotated[
        int | None, typer.Option(help="A stratified sample of so many items.", min=1, rich_help_panel=_BENCH)
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Address of an OpenAI-compatible server.", rich_help_panel=_BENCH)
    ] = None,
    served_model: Annotated[
        str | None, typer.Option("--model", help="Model name as the server knows it.", rich_help_panel=_BENCH)
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(help="NAME of the environment variable with the server's key.", rich_help_panel=_BENCH),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(help="Requests to the server at once.", min=1, rich_help_panel=_BENCH)
    ] = 64,
    requests_per_minute: Annotated[
        float | None, typer.Option(help="Limit of requests started.", min=0.001, rich_help_panel=_BENCH)
    ] = None,
    timeout_s: Annotated[
        float, typer.Option(help="Deadline of one request in seconds.", min=0.1, rich_help_panel=_BENCH)
    ] = 1800.0,
    blind: Annotated[
        bool, typer.Option("--blind", help="Leave the images out: a blind baseline.", rich_help_panel=_BENCH)
    ] = False,
    count_refused: Annotated[
        bool,
        typer.Option(
            "--count-refused", help="Requests that the server refuses for good count as wrong.", rich_help_panel=_BENCH
        ),
    ] = False,
    regrade: Annotated[
        bool,
        typer.Option("--regrade", help="Grade the answers in --out anew, without a model.", rich_help_panel=_BENCH),
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch absent data from the hub into --data.", rich_help_panel=_BENCH)
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two result folders: paired differences; --out: a page.", rich_help_panel=_BENCH),
    ] = None,
    reading: RecipeWords = None,
) -> None:
    """Measure a model's accuracy ± standard error: on data by domain, or on published benchmarks.

    With --bench, answers are stored as they come, and the same command goes on where a killed one stopped.
    """
    words = reading or []
    if compare is not None:
        from seethink.studies.benchmarks.comparison import compare as compare_results

        compare_results(*compare, out)
        return
    if (server is not None or regrade) and model is not None and "=" in model:
        words, model = [model, *words], None
    from seethink.config import make_tools

    tools = make_tools(environment=environment, turns=turns, turn_tokens=turn_tokens)
    if bench is not None or server is not None or regrade:
        if environment is not None and regrade:
            raise UserError("--environment is for a model that answers: leave it out with --regrade, which asks none")
        if size is not None:
            raise UserError("--size is for files and the world; with --bench give --limit, a sample of all items")
        options = BenchOptions(
            bench=bench, protocol=protocol, runs=runs, temperature=temperature, max_new_tokens=max_new_tokens,
            limit=limit, seed=seed, data=data, out=out, server=server, served_model=served_model,
            api_key_env=api_key_env, concurrency=concurrency, requests_per_minute=requests_per_minute,
            timeout_s=timeout_s, blind=blind, count_refused=count_refused, regrade=regrade, download=download,
            tools=tools,
        )  # fmt: skip
        evaluate_benchmarks(model, options, words)
        return
    if model is None:
        raise UserError("expected a MODEL: `nano`, a checkpoint folder, or a hub name; see `seethink eval --help`")
    _evaluate_data(model, data or "world:all", size, samples, greedy, max_new_tokens or 160, tools, seed, out, words)


def _evaluate_data(
    model: str,
    data: str,
    size: int | None,
    samples: int,
    greedy: bool,
    max_new_tokens: int,
    tools: ToolConfig,
    seed: int,
    out: Path | None,
    words: list[str],
) -> None:
    from seethink.config import EvalConfig, make_reading, make_reward
    from seethink.eval.presentation import score_table
    from seethink.studies.evaluation import evaluate_model

    config = EvalConfig(data=data, size=size, samples=samples, greedy=greedy, max_new_tokens=max_new_tokens)
    reading, reward = make_reading(words), make_reward(words)
    scores = evaluate_model(model, config, reading=reading, reward=reward, tools=tools, seed=seed, out=out)
    console.print(score_table(part for score in scores for part in score.parts))


@app.command(epilog="Example: `seethink modes runs/nano-grpo/best --budgets 8,16,32,64 --size 200 --out modes.json`")
def modes(
    model: Annotated[str, typer.Argument(help="`nano`, a checkpoint folder, or a hub name.")],
    data: Annotated[str, typer.Option(help="world:DOMAINS, or a JSONL or Parquet path.")] = "world:all",
    modes: Annotated[
        str, typer.Option(help="Any of slow, nothink and nowait, with commas between.")
    ] = "slow,nothink,nowait",
    budgets: Annotated[
        str, typer.Option(help="Numbers of thinking tokens; each is measured with the block closed, and cut off.")
    ] = "",
    size: Annotated[int, typer.Option(help="Items per domain.", min=1)] = 200,
    samples: Annotated[int, typer.Option(help="Completions per item.", min=1)] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 160,
    answer_tokens: Annotated[int, typer.Option(help="Room for the answer after a closed block.", min=1)] = 32,
    words: Annotated[str, typer.Option(help="Words that nowait forbids; default: log.critical_words.")] = "",
    opening: Annotated[str, typer.Option(help="Begin every nothink response so, e.g. 'The answer is'.")] = "",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="JSON file; finished rows are kept beside it.")] = Path("modes.json"),
    reading: RecipeWords = None,
) -> None:
    """Measure accuracy and length in inference modes and under thinking budgets, on the same items.

    A second call goes on where the first stopped.
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
    by: Annotated[
        str, typer.Option(help="Criterion that chooses the checkpoint; see docs/selection.md.")
    ] = "critical_entropy",
    data: Annotated[
        str | None, typer.Option(help="Held-out items; default: the run's eval.data, or world:all after the world.")
    ] = None,
    in_domain: Annotated[str, typer.Option(help="Domains of the data that the run was trained on: a,b.")] = "",
    size: Annotated[
        int, typer.Option(help="Items per domain for the criteria, and as many to judge them.", min=1)
    ] = 100,
    samples: Annotated[int, typer.Option(help="Responses per item, at temperature 1.", min=1)] = 2,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 160,
    words: Annotated[str, typer.Option(help="Critical words; default: log.critical_words.")] = "",
    export: Annotated[Path | None, typer.Option(help="Folder to write the chosen checkpoint to.")] = None,
    seed: Seed = 0,
    reading: RecipeWords = None,
) -> None:
    """Rank a run's checkpoints by entropy at critical words, reward or accuracy.

    Tables show how well each criterion predicts held-out accuracy. A second call measures only what is new. The run's
    folder gets select.json.
    """
    from seethink.config import split_names
    from seethink.studies.selection.select_run import select_run, selection_text, settings_of

    settings = settings_of(run, words, samples=samples, max_new_tokens=max_new_tokens, seed=seed)
    domains = split_names(in_domain)
    found = select_run(
        run, settings, by=by, data=data, size=size, in_domain=domains, words=reading or [], export=export
    )
    console.print(selection_text(found))


@app.command(epilog="Example: `seethink entropy runs/nano-grpo/checkpoints/step_000100 --size 200 --out entropy.json`")
def entropy(
    model: Annotated[str, typer.Argument(help="As for eval; or stored results: an entropy.json, or a run's folder.")],
    data: Annotated[str | None, typer.Option(help="As for eval; also the prompts of other trainers' rollouts.")] = None,
    size: Annotated[int, typer.Option(help="Items per domain.", min=1)] = 500,
    samples: Annotated[int, typer.Option(help="Responses per item.", min=1)] = 4,
    words: Annotated[
        str | None, typer.Option(help="Critical words with commas between; default: the recipes'.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Tokens after a critical word that count as following it.", min=1)
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Nats above which a token is in the tail.", min=0)] = None,
    rollouts: Annotated[Path | None, typer.Option(help="Score these (JSONL, or a run) instead of sampling.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 160,
    temperature: Annotated[float, typer.Option(min=0.01)] = 1.0,
    seed: Seed = 0,
    against: Annotated[Path | None, typer.Option(help="Compare with this entropy.json, or run's folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    reading: RecipeWords = None,
) -> None:
    """Measure token entropy at critical words, after them, and by correctness and place.

    Responses are sampled, or stored ones are scored again. With --against, the differences from another result are
    shown with their 95% intervals."""
    from seethink.config import make_reading, make_reward
    from seethink.studies.entropy.entropy_command import EntropyCommand

    EntropyCommand(
        model, data=data, size=size, samples=samples, words=words, window=window, threshold=threshold,
        rollouts=rollouts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, against=against, out=out,
        reading=make_reading(reading or []), reward=make_reward(reading or []),
    ).run()  # fmt: skip


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
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Server of an LLM that confirms each statement.")] = None,
    verifier_model: Annotated[str, typer.Option(help="Its model's name.")] = "default",
    reading: RecipeWords = None,
) -> None:
    """Count responses that say the image cannot be seen, with their accuracy and the entropy around it (paper 6.4)."""
    from seethink.config import make_reading, make_reward, make_verifier
    from seethink.core.files import claim_file, json_with, write_json
    from seethink.eval.hallucination import as_record, denial_table
    from seethink.studies.hallucination.responses import measure_hallucination

    if out is not None:
        claim_file(out, json_with("rows"), "a result of `seethink hallucination`")
    judge = make_verifier(base_url=base_url, model=verifier_model) if base_url else None
    limits = {"size": size, "samples": samples, "max_new_tokens": max_new_tokens}
    read, reward = make_reading(reading or []), make_reward(reading or [])
    findings, about = measure_hallucination(
        model, data, **limits, seed=seed, reading=read, reward=reward, verifier=judge
    )
    console.print(denial_table(findings, model))
    if out is not None:
        as_user_error(lambda: write_json(out, as_record(findings, about)))
