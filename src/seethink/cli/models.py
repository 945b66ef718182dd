"""Commands on a model itself: parts, export, chat, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from seethink.cli.options import Seed, Tool
from seethink.core.console import console
from seethink.core.errors import UserError

app = typer.Typer()


@app.command(epilog="Example: `seethink parts Qwen/Qwen2.5-VL-7B-Instruct --json`")
def parts(
    model: Annotated[str, typer.Argument(help="`nano`, a checkpoint folder (config.json is enough), or a hub name.")],
    recipe: Annotated[Path | None, typer.Option(help="Recipe whose [parts.modules] say where the parts are.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show a model's modules by role (vision, connector, language) with parameter counts.

    Needs only the model's configuration, not its weights. For a family that is not listed it shows the parts that the
    model's structure tells, and why; they are proven on a picture when the model is loaded.
    """
    from seethink.config import load_recipe
    from seethink.models import describe

    modules = load_recipe(recipe).parts.modules if recipe is not None else None
    found = describe.describe(model, modules=modules)
    if as_json:
        console.print_json(data=describe.as_json(found))
    else:
        console.print(describe.render(found))


@app.command(epilog="Example: `seethink families --markdown > docs/model_types.md`")
def families(
    markdown: Annotated[bool, typer.Option(help="Print the page of the documentation instead.")] = False,
) -> None:
    """List every vision-language class of the installed transformers: listed, found by its structure, or refused.

    Each is built from its default configuration without weights; half a minute for all.
    """
    from seethink.core.console import progress_bar
    from seethink.models import coverage

    rows = []
    with progress_bar("model classes", len(coverage.model_classes())) as advance:
        for row in coverage.coverage():
            rows.append(row)
            advance(1, row.model_type)
    if markdown:
        typer.echo(coverage.as_markdown(rows), nl=False)
    else:
        console.print(coverage.as_table(rows))


@app.command(
    epilog="Example: `seethink export runs/nano-grpo --out models/nano-reasoner`; "
    "`seethink export runs/nano-grpo --out models/nano-reasoner --push me/nano-reasoner`"
)
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="This checkpoint instead of the one that the run ended with.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    push: Annotated[
        str | None, typer.Option(help="Then upload the folder to this repository, OWNER/NAME, of the hub.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: a new repository is public.")] = False,
) -> None:
    """Write a folder that plain transformers and vLLM load: weights, processor, a model card with recipe and scores."""
    from seethink.export import export_run
    from seethink.export.push import push_folder, refuse_push

    if public and push is None:
        raise UserError("--public is about --push OWNER/NAME: give one, or leave it out")
    if push is not None:
        refuse_push(push)
    console.print(f"model: {escape(str(export_run(run, out, checkpoint=checkpoint, dtype=dtype)))}", soft_wrap=True)
    if push is not None:
        console.print(f"pushed: {escape(push_folder(out, push, public=public))}", soft_wrap=True)


@app.command(epilog="Example: `seethink chat runs/nano-grpo/best --image chart.png --entropy`")
def chat(
    model: Annotated[str, typer.Argument(help="`nano`, a checkpoint folder, or a hub name.")],
    question: Annotated[str | None, typer.Option(help="Answer this alone; default: what is typed.")] = None,
    image: Annotated[str, typer.Option(help="Picture that the questions are about.")] = "",
    mode: Annotated[
        str, typer.Option(help="slow, nothink, nowait, or a number of thinking tokens (docs/modes.md).")
    ] = "slow",
    entropy: Annotated[bool, typer.Option("--entropy", help="Shade each token by its entropy.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 512,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 1.0,
    seed: Seed = 0,
    environment: Tool = None,
) -> None:
    """Ask a model about a picture in the terminal; thoughts are dim. Each question is answered on its own.

    While it runs, /image, /mode and /entropy change the picture, the mode and the shading.
    """
    from seethink.config import make_tools
    from seethink.models.load import load_model
    from seethink.studies.chat.session import ChatSession
    from seethink.studies.chat.terminal import chat as talk

    session = ChatSession(
        load_model(model),
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
        tools=make_tools(environment=environment),
    )
    session.show_image(image)
    session.use_mode(mode)
    talk(session, question, shaded=entropy)


@app.command(epilog="Example: `seethink serve runs/nano-grpo/best --port 8000`")
def serve(
    model: Annotated[str, typer.Argument(help="`nano`, a checkpoint folder, or a hub name.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than loopback need --api-key-env.")
    ] = "127.0.0.1",
    api_key_env: Annotated[
        str | None, typer.Option(help="NAME of the environment variable with the key that clients must send.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest response, whatever is asked.")] = 4096,
) -> None:
    """Serve a model as an OpenAI-compatible server, to try a verifier, teacher or benchmark against it.

    One decoder answers one group of requests after the other: for load, serve an export with vLLM.
    """
    from seethink.models.load import load_model
    from seethink.studies.serve.run import run_server

    run_server(load_model(model), host, port, api_key_env=api_key_env, max_new_tokens=max_new_tokens)
