"""`seethink verifier`: the LLM verifier beside the rule grader."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from seethink.core.console import console
from seethink.core.errors import as_user_error

app = typer.Typer(help="The LLM verifier beside the rule grader.", no_args_is_help=True)


@app.command(
    "check", epilog="Example: `seethink verifier check cases.jsonl --base-url http://127.0.0.1:8000/v1 --model NAME`"
)
def check(
    cases: Annotated[Path, typer.Argument(help="Labelled JSONL: id, gold, prediction, expected, question?")],
    base_url: Annotated[str, typer.Option(help="Address of an OpenAI-compatible server.")],
    model: Annotated[str, typer.Option(help="Model name as the server knows it.")],
    api_key_env: Annotated[str | None, typer.Option(help="NAME of the environment variable with the key.")] = None,
) -> None:
    """Accuracy, false-positive and false-negative rate of a verifier, before a run trusts it."""
    from seethink.config import make_verifier
    from seethink.rewards.verifier.check import check_verifier

    def rates() -> object:
        config = make_verifier(base_url=base_url, model=model, api_key_env=api_key_env)
        return check_verifier(config, cases)

    console.print(escape(str(as_user_error(rates))))
