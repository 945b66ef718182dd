"""Fuzzed run folders: a page has its own elements only, embedded JSON comes back whole, no terminal is driven."""

from __future__ import annotations

import io
import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from helpers.fuzzing import fuzz, harmless, keeping, kept
from seethink.report import summary_table, write_report
from seethink.report.load import load_run
from seethink.report.rollouts import collect

pytestmark = pytest.mark.slow
TAGS = (
    "<script>alert(1)</script> </script><!--<script> <!-- --> ]]> </style> </title><script> <svg/onload=alert(1)> &lt;"
)
HOSTILE = [
    *TAGS.split(" "),
    "<img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    '" onmouseover="alert(1)',
    "'",
    "\x00",
]
HOSTILE += ["&#60;script&#62;", "\x1b[2J", "\ud800", "\u2028", "{{ 7*7 }}", "{% raw %}", "\u202e", "../../etc/passwd"]
TEXTS = st.sampled_from(HOSTILE) | st.text(max_size=10)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS, v, max_size=3), max_leaves=6)
SCORES = st.lists(
    st.fixed_dictionaries(
        {"domain": TEXTS, "accuracy": st.floats(0, 1) | VALUES},
        optional={"difficulty": VALUES, "mode": TEXTS, "stderr": VALUES, "n": VALUES, "mean_tokens": VALUES},
    ),
    max_size=3,
)
COMPLETIONS = st.fixed_dictionaries(
    {"text": TEXTS},
    optional={
        "tokens": st.lists(TEXTS, max_size=4), "entropies": st.lists(st.floats(), max_size=4), "verdict": VALUES,
        "critical": st.lists(st.booleans(), max_size=4), "reward": VALUES, "advantage": VALUES, "extracted": VALUES,
        "reward_parts": st.dictionaries(TEXTS, SCALARS, max_size=2), "truncated": VALUES, "hallucinated": VALUES,
    },
)  # fmt: skip
GROUPS = st.fixed_dictionaries(
    {"completions": st.lists(COMPLETIONS, max_size=2)},
    optional=dict.fromkeys(("step", "id", "domain", "question", "answer", "choices", "images"), VALUES),
)
METRICS = st.lists(
    st.dictionaries(
        st.sampled_from(["step", "reward/mean", "loss/total", "entropy/mean", "time/step_s"]) | TEXTS, VALUES
    )
)
FOLDERS = st.fixed_dictionaries(
    {
        "recipe.json": st.dictionaries(TEXTS, VALUES, max_size=4) | VALUES,
        "metrics.jsonl": METRICS,
        "eval.json": st.fixed_dictionaries({"scores": SCORES}) | VALUES,
        "parts.json": st.fixed_dictionaries({"parts": VALUES, "change": VALUES}) | VALUES,
        "data.json": VALUES,
        "blindness.jsonl": st.lists(
            st.dictionaries(st.sampled_from(["step", "verdict", "failed"]), VALUES), max_size=2
        ),
        "rollouts/step_000001.jsonl": st.lists(GROUPS, max_size=3),
    }
)
OWN_SCRIPTS = 2
"""The viewer, and its data that never run."""


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, and the text of each script."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self.comments = 0
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data

    def handle_comment(self, data: str) -> None:
        self.comments += 1


def show(data: bytes, folder: Path) -> None:
    """The property. `data`: a JSON object, file name -> content."""
    for name, content in json.loads(data).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = name.endswith(".jsonl") and isinstance(content, list)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in content) if lines else json.dumps(content))
    with harmless(folder):
        page = write_report(folder).read_text(encoding="utf-8")
        run = load_run(folder)
        rollouts = collect(run)
        screen = io.StringIO()
        Console(file=screen, width=200).print(summary_table(folder))
    assert not {c for c in screen.getvalue() if c < " " and c != "\n"}
    found = Page()
    found.feed(page)
    found.close()
    assert found.elements["script"] == (OWN_SCRIPTS if rollouts.groups else 0)
    assert found.elements["style"] == found.elements["head"] == found.elements["body"] == 1
    assert not set(found.elements) & {"img", "iframe", "object", "embed", "base"}
    assert not found.comments
    assert found.elements["form"] <= 1, "the page's own dialog"
    assert not [a for a in found.attributes if a[1].startswith("on") or (a[1] == "href" and a[2][:1] not in "#d")]
    assert not rollouts.groups or json.loads(found.scripts[0]) == rollouts.data()


@given(content=FOLDERS)
@fuzz(30, 1000)
def test_any_folder(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    data = json.dumps(content).encode()
    with keeping("reports", data):
        show(data, tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("data", kept("reports"))
def test_kept_folders(data: bytes, tmp_path: Path) -> None:
    show(data, tmp_path)
