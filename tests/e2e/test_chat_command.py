"""`seethink chat`: what it prints while a response grows is the response, in every mode."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from helpers.command_line import run_command
from helpers.nano import load_nano
from helpers.pictures import picture_folder
from seethink.core.errors import UserError
from seethink.models.load import LoadedModel
from seethink.studies.chat.session import ChatSession
from seethink.studies.chat.terminal import Printer, _plain
from seethink.world.make import world_samples

SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded(random_nano: Path) -> LoadedModel:
    return load_nano(random_nano)


@pytest.mark.parametrize("mode", ["5", *(pytest.param(m, marks=SLOW) for m in ("slow", "nothink", "nowait"))])
def test_the_pieces_are_the_response(loaded: LoadedModel, mode: str) -> None:
    session, shown = ChatSession(loaded, max_new_tokens=24), list[tuple[str, float]]()
    session.use_mode(mode)
    completion = session.ask("How many?", lambda text, entropy: shown.append((text, entropy)))
    text = loaded.chat.tokenizer.decode([i for i in completion.token_ids if i not in loaded.stop_ids])
    assert "".join(piece for piece, _ in shown) == text
    assert len(shown) > 15
    assert {round(entropy, 3) for _, entropy in shown} <= {round(entropy, 3) for entropy in completion.entropies}
    if mode == "5":
        assert "</think>" in text
    if mode == "nothink":
        assert "<think>" not in text


@pytest.mark.slow
def test_the_picture_matters_and_the_same_question_is_drawn_anew(loaded: LoadedModel, tmp_path: Path) -> None:
    session = ChatSession(loaded, max_new_tokens=12)
    texts = []
    for image in ("", str(picture_folder(tmp_path) / "in.png")):
        session.show_image(image)
        texts += [session.ask("How many?", lambda *_: None).text for _ in range(2)]
    assert len(set(texts)) == 4
    again = ChatSession(loaded, max_new_tokens=12)
    assert again.ask("How many?", lambda *_: None).text == texts[0]


@pytest.mark.parametrize("mode", ["fast", "0", "512", ""])
def test_unknown_modes_are_refused(loaded: LoadedModel, mode: str) -> None:
    with pytest.raises(UserError, match="choose from slow, nothink, nowait, or give a number"):
        ChatSession(loaded).use_mode(mode)


def test_a_missing_picture_is_named(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no image at 'none\.png'"):
        ChatSession(loaded).show_image(str(tmp_path / "none.png"))


def test_model_output_cannot_drive_the_terminal() -> None:
    assert _plain("a\n\x1b[2Jb\u202e") == "a\n␛[2Jb⟨U+202E⟩"


def test_thoughts_are_dim_until_they_end() -> None:
    printer, seen = Printer(shaded=False), []
    for piece in ("<thi", "nk>", "so", "</think>", "7"):
        printer._text += piece
        seen.append(printer._is_thinking())
    assert seen == [False, True, True, False, False]


@pytest.mark.slow
def test_the_command_answers_questions_and_obeys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world_samples("world:math", "test", 1, 0)[0].pictures()[0].save(tmp_path / "digits.png")
    typed = (
        "/mode fast\nWhat is the sum of all values?\n/image digits.png\n/entropy\n/help\nAnd now?\n/quit\nNot asked\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    ended = run_command("chat", "nano", "--max-new-tokens", "40", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "no mode 'fast'" in ended.stdout
    assert "entropy shading is on" in ended.stdout
    assert ended.stdout.count("mean entropy") == 2
    one = run_command("chat", "nano", "--question", "What is the sum?", "--image", "digits.png", cwd=tmp_path)
    assert one.returncode == 0
    assert one.stdout.count("mean entropy") == 1
    wrong = run_command("chat", "nano", "--question", "Q", "--image", "none.png", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
