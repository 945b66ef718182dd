"""The public API: its names, their signatures and docstrings, and what importing it costs and changes.

A signature that is meant to change is stored anew with `python tests/unit/test_public_api.py`.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import statistics
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import seethink

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "public_api.txt"
SOURCE = Path(seethink.__file__)
FUNCTIONS = sorted(name for name in seethink.__all__ if name[0].islower())
CLASSES = sorted(name for name in seethink.__all__ if name[0].isupper())
PURE = {"collate", "group_advantages", "has_think_format", "policy_loss", "token_logprobs", "token_weights"}
"""Functions that raise no error of their own."""
HEAVY = ("torch", "transformers", "numpy", "pydantic", "rich", "PIL", "typer")


def signatures() -> str:
    """One line per name: functions with their arguments, classes with those of their constructor and public methods."""
    lines = [f"{name}{inspect.signature(getattr(seethink, name))}" for name in FUNCTIONS]
    for name in CLASSES:
        lines += [f"class {line}" for line in class_lines(name, getattr(seethink, name))]
    return "\n".join(lines) + "\n"


def class_lines(name: str, kind: type) -> list[str]:
    if hasattr(kind, "model_fields") or issubclass(kind, Exception):
        # The keys of a recipe's section are pinned by recipe_keys.txt; an exception takes a message.
        return [name]
    if issubclass(kind, str):
        return [f"{name}({', '.join(member.value for member in kind)})"]  # type: ignore[attr-defined]
    own = [(method, thing) for method, thing in vars(kind).items() if inspect.isfunction(thing) and method[0] != "_"]
    methods = [f"{name}.{method}{inspect.signature(thing)}" for method, thing in own]
    return [f"{name}{inspect.signature(kind)}", *sorted(methods)]


def run(code: str, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout


def test_the_signatures_are_those_that_were_promised() -> None:
    assert signatures() == GOLDEN.read_text(encoding="utf-8")


def test_editors_see_the_names_that_programs_get() -> None:
    """The imports for type checkers, `__all__` and the table of `__getattr__` say the same."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == seethink._HOMES
    assert set(seethink.__all__) == {*seen, "__version__"}
    assert dir(seethink) == seethink.__all__ == sorted(seethink.__all__)


def test_every_name_leads_to_the_thing_itself() -> None:
    for name, home in seethink._HOMES.items():
        assert getattr(seethink, name) is getattr(import_module(home), name)


def test_a_function_is_not_hidden_by_the_package_of_its_name() -> None:
    import seethink.generate.protocol
    import seethink.train.grpo

    assert inspect.isfunction(seethink.generate)
    assert inspect.isfunction(seethink.train)
    assert seethink.train.__module__ == seethink.generate.__module__ == "seethink.api"
    assert run("import seethink.train.signals; from seethink import train; print(train.__name__)") == "train\n"


def test_the_page_shows_every_name() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: (\S+)$", page, re.M)) == sorted(f"{h}.{n}" for n, h in seethink._HOMES.items())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'seethink' has no attribute 'nothing'"):
        seethink.nothing  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_takes_gives_and_raises(name: str) -> None:
    function = getattr(seethink, name)
    text = inspect.getdoc(function) or ""
    assert re.match(r"[^\n]+[.:]\n|[^\n]+\.$", text), "the first line is a whole sentence"
    sections: dict[str, str] = dict(re.findall(r"^(Args|Returns|Raises|Example):(.*?)(?=^\w+:|\Z)", text, re.M | re.S))
    parameters = set(inspect.signature(function).parameters)
    documented = set(re.findall(r"^    (\w+): ", sections.get("Args", ""), re.M))
    assert documented == parameters
    assert sections.get("Returns", "").strip()
    assert name in PURE or sections.get("Raises", "").strip()


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_and_its_methods_have_a_docstring(name: str) -> None:
    kind = getattr(seethink, name)
    assert (kind.__doc__ or "").strip(), name
    for method, thing in vars(kind).items():
        if inspect.isfunction(thing) and not method.startswith("_"):
            assert (thing.__doc__ or "").strip(), f"{name}.{method}"


def test_importing_loads_nothing_heavy_and_changes_nothing() -> None:
    code = (
        "import json, os, sys; before = dict(os.environ), sys.excepthook, list(sys.path), list(sys.meta_path)\n"
        "import seethink\n"
        "assert before == (dict(os.environ), sys.excepthook, list(sys.path), list(sys.meta_path))\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert not {module.partition(".")[0] for module in json.loads(run(code))} & set(HEAVY)


@pytest.mark.parametrize("name", ["Sample", "Grade", "load_recipe", "grade", "has_think_format", "generate", "train"])
def test_what_needs_no_tensors_loads_no_torch(name: str) -> None:
    assert run(f"import sys; from seethink import {name}; print('torch' in sys.modules)").strip() == "False"


def test_importing_takes_less_than_50_ms() -> None:
    """Median of five, in seconds of the processor, which other processes on the machine do not change."""
    code = "import time; start = time.process_time(); import seethink; print(time.process_time() - start)"
    assert statistics.median(float(run(code)) for _ in range(5)) < 0.05


def test_the_package_is_a_command() -> None:
    command = [sys.executable, "-m", "seethink", "--version"]
    assert subprocess.check_output(command, text=True).strip() == f"seethink {seethink.__version__}"


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE.parent / "py.typed").is_file()


if __name__ == "__main__":
    GOLDEN.write_text(signatures(), encoding="utf-8")
