"""Items 40, 44, 45 and the first cause of a dead worker: names and texts from outside, ports, data threads."""

from __future__ import annotations

import ast
import io
import json
import threading
from pathlib import Path

import pytest
from rich.console import Console

import seethink
from helpers.rows import load_samples
from seethink.config import RecipeError, make_recipe
from seethink.data import rows
from seethink.eval.presentation import score_table
from seethink.eval.score import Score

HOSTILE = ["../evil", "a/b", "a\nb", "a\n", "\n", "a\x1b[2J", "a b", "<script>", "", "\u202e", "a\\b", "a\x00"]


@pytest.mark.parametrize("name", HOSTILE)
def test_44_a_run_has_a_plain_name(name: str) -> None:
    with pytest.raises(RecipeError, match="name"):
        make_recipe({"name": name, "stage": "sft", "out": "o", "data": {"train": "d"}})


def test_44_ids_of_rows_are_no_paths(tmp_path: Path) -> None:
    """Rollouts and images are filed by step and by content; an id is only text in them."""
    from helpers.nano import picture
    from seethink.runs.rollouts import _store_image

    picture(1).save(tmp_path / "a.png")
    row = {"id": "../../evil\n", "prompt": "?", "images": ["a.png"], "answer": "1"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row))
    (sample,) = load_samples(str(tmp_path / "d.jsonl"), "train", None, 0)
    assert sample.id == "../../evil\n"
    name = _store_image(sample.images[0], tmp_path / "run")
    assert name.startswith("images/")
    assert [p.name for p in (tmp_path / "run").rglob("*.png")] == [Path(name).name]


def test_40_a_domain_does_not_drive_the_terminal() -> None:
    screen = io.StringIO()
    score = Score("\x1b[2J[red]evil[/red]\x07", "all", "greedy", 4, 0.5, 0.1, 3.0, 0.0, 1.0, 0.0, 0)
    Console(file=screen, width=120, force_terminal=False).print(score_table([score]))
    assert "[red]evil" in screen.getvalue(), "as it stands, not as markup"
    assert not {c for c in screen.getvalue() if c < " " and c != "\n"}


LISTENERS = {
    "dist/ray.py": "LOOPBACK",  # a cluster of this machine alone
    "dist/ray_place.py": "get_node_ip_address",  # finds a free port for ranks to meet, on the cluster's own network
    "dist/servers.py": "127.0.0.1",  # finds free ports for vLLM servers
    "generate/weight_sync.py": "own_address",  # the trainer's end of a transfer of weights
    "studies/serve/server.py": "127.0.0.1",  # seethink serve
}
"""Where a socket is bound, and what says to which address."""


def test_45_what_listens_is_known() -> None:
    """No other module imports a server or binds a socket, and none of these listens on all interfaces by default."""
    package = Path(seethink.__file__).parent
    for path in package.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "0.0.0.0" not in source, path
        name = path.relative_to(package).as_posix()
        if name in LISTENERS:
            assert LISTENERS[name] in source
            continue
        for node in ast.walk(ast.parse(source)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"socketserver", "uvicorn", "fastapi", "flask", "ray"}, path
            assert "http.server" not in names, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in {"bind", "listen", "start_server", "create_server"}, (path, node.lineno)


def test_the_first_cause_in_a_data_thread_is_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and images are read by threads: one that fails ends the reading with its own error, and all threads end."""

    def broken(*_: object, **__: object) -> None:
        raise MemoryError("the very first cause")

    (tmp_path / "d.jsonl").write_text('{"prompt": "?", "images": ["a.png"], "answer": "1"}\n' * 200)
    monkeypatch.setattr(rows, "check_image", broken)
    with pytest.raises(MemoryError, match="the very first cause"):
        load_samples(str(tmp_path / "d.jsonl"), "train", None, 0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rows")]
