"""Texts of rows: chats that were stored as text, an assistant's reply as the gold, empty columns, broken characters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.rows import Row, load_samples, png, read_rows, write_jsonl
from seethink.core.types import Sample


def user(content: Any) -> Row:
    return {"role": "user", "content": content}


def assistant(content: Any) -> Row:
    return {"role": "assistant", "content": content}


def talk(question: str, reply: str) -> list[Row]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]


def shades(sample: Sample) -> list[int]:
    return [picture.getpixel((0, 0))[0] for picture in sample.pictures()]  # type: ignore[index]


def write(tmp_path: Path, rows: list[Row]) -> Path:
    (tmp_path / "a.png").write_bytes(png(7))
    return write_jsonl(tmp_path / "d.jsonl", rows)


CHAT = [{"role": "system", "content": "S"}, user("<image>Q?")]
SHAREGPT = talk("<image>Q?", "3")


@pytest.mark.parametrize(
    ("row", "style", "response"),
    [
        ({"messages": json.dumps(CHAT), "answer": "3"}, "seethink", None),
        ({"prompt": json.dumps(CHAT), "answer": "3"}, "seethink", None),
        ({"prompt": json.dumps(CHAT[1]), "system": "S", "answer": "3"}, "seethink", None),
        ({"prompt": json.dumps({"id": 1, "messages": CHAT}), "answer": "3"}, "seethink", None),
        ({"prompt": json.dumps(CHAT), "solution": "3"}, "trl", None),
        ({"problem": json.dumps(CHAT), "answer": "3"}, "easyr1", None),
        ({"messages": json.dumps(CHAT), "solution": "3"}, "ms-swift", None),
        ({"prompt": json.dumps(CHAT), "reward_model": json.dumps({"ground_truth": "3"})}, "verl", None),
        ({"conversations": json.dumps(SHAREGPT), "solution": "3"}, "vlm-r1", "3"),
        ({"messages": json.dumps([*CHAT, assistant("R")]), "answer": "3"}, "seethink", "R"),
        ({"prompt": json.dumps(CHAT), "completion": json.dumps([assistant("R")]), "answer": "3"}, "trl", "R"),
        (
            {"prompt": [user(json.dumps([{"type": "image"}, {"type": "text", "text": "Q?"}]))], "answer": "3"},
            "seethink",
            None,
        ),
    ],
)
def test_chats_that_were_stored_as_json_text(tmp_path: Path, row: Row, style: str, response: str | None) -> None:
    (result,) = read_rows(str(write(tmp_path, [{**row, "image": "a.png"}])), "train")
    assert result.style is not None
    assert result.sample is not None, result.problem
    sample = result.sample
    assert (result.style.name, sample.question, sample.answer, sample.response) == (style, "<image>Q?", "3", response)
    assert shades(sample) == [7]


@pytest.mark.parametrize(
    "text", [str(CHAT), json.dumps(CHAT)[:-3], str(SHAREGPT), json.dumps(json.dumps(CHAT)), str({"x": CHAT})]
)
@pytest.mark.parametrize("column", ["messages", "problem", "conversations", "query"])
def test_a_chat_as_text_that_is_no_json_is_a_bad_row(tmp_path: Path, column: str, text: str) -> None:
    (result,) = read_rows(str(write(tmp_path, [{column: text, "image": "a.png", "answer": "3"}])), "train")
    assert result.problem is not None
    assert result.problem.reason == "bad_message"
    assert result.problem.detail.startswith(f"{column!r}: a chat as text that cannot be read as JSON")


@pytest.mark.parametrize(
    "question", ['{"a": 1} What is a?', "[1, 2, 3]", '["role", "from"]', '[{"a": 1}]', "[see] it?"]
)
def test_questions_that_look_like_json_stay_as_they_are(tmp_path: Path, question: str) -> None:
    (sample,) = load_samples(str(write(tmp_path, [{"prompt": question, "answer": "3"}])), "train", None, 0)
    assert sample.question == question


@pytest.mark.parametrize(
    ("reply", "gold"),
    [
        ("red", "red"),
        ("<think>It is red.</think>red", "red"),
        ("<think>It is red.</think><answer>red</answer>", "red"),
        ("I look at it.\nThe result is\n\\boxed{5}", "5"),
        ("A long description. " * 20, None),
        ("<think>no end", None),
    ],
)
@pytest.mark.parametrize("style", ["messages", "conversations", "query", "prompt", "problem"])
def test_the_assistant_s_short_reply_is_the_gold_of_an_evaluation(
    tmp_path: Path, style: str, reply: str, gold: str | None
) -> None:
    turns = [user("Q?"), assistant(reply)]
    row: Row = {"query": "Q?", "response": reply} if style == "query" else {style: turns}
    path = str(write(tmp_path, [row]))
    (result,) = read_rows(path, "train", graded=True)
    assert (result.sample and result.sample.answer) == gold
    assert gold is not None or (result.problem is not None and result.problem.reason == "missing_column")
    (trained,) = load_samples(path, "train", None, 0)
    assert (trained.answer, trained.response) == ("", reply), "SFT imitates it"


@pytest.mark.parametrize("nothing", [None, "", [], {}, float("nan"), [None], [""]])
def test_empty_columns_are_no_columns(tmp_path: Path, nothing: Any) -> None:
    others = (
        "messages",
        "problem",
        "reward_model",
        "conversations",
        "solution",
        "videos",
        "choices",
        "system",
        "A",
        "B",
    )
    row = {**dict.fromkeys(others, nothing), "question": "Q?", "answer": "3", "image": "a.png"}
    (result,) = read_rows(str(write(tmp_path, [row])), "train", graded=True)
    assert result.style is not None
    assert result.sample is not None, result.problem
    assert (result.style.name, result.sample.question, result.sample.answer) == ("seethink", "Q?", "3")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": [user([{"type": "text", "text": ["a", "b"]}])]}, "a text block: expected a text, found list"),
        ({"prompt": "Q?", "system": ["a"]}, "'system': expected a text, found list"),
        ({"prompt": "Q?", "system": {"a": "b"}}, "'system': expected a text, found dict"),
    ],
)
def test_lists_are_never_put_as_python_writes_them(tmp_path: Path, row: Row, said: str) -> None:
    (result,) = read_rows(str(write(tmp_path, [{**row, "answer": "3"}])), "train")
    assert result.problem is not None
    assert said in result.problem.detail


@pytest.mark.parametrize("column", ["prompt", "choices", "system", "response", "answer", "id", "domain", "difficulty"])
def test_half_a_character_is_a_bad_row(tmp_path: Path, column: str) -> None:
    broken: Any = ["nice \ud83d", "b"] if column == "choices" else "nice \ud83d"
    row = {"prompt": "Q?", "answer": "A" if column == "choices" else "3", column: broken}
    (result,) = read_rows(str(write(tmp_path, [row])), "train")
    assert result.problem is not None
    assert result.problem.reason == "broken_text"
    assert "holds U+D83D, half of a character" in result.problem.detail
    assert f"{result.problem.id} {result.problem.detail}".encode()


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("<think>1+2=3</think>\n<answer> 3 </answer>", "3"),
        ("so $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("\\boxed{1}, \\boxed{2}", "1, 2"),
        ("$x=3$", "$x=3$"),
        ("The answer is 4.", "4"),
    ],
)
@pytest.mark.parametrize("style", ["seethink", "trl", "easyr1", "ms-swift", "vlm-r1", "verl"])
def test_a_gold_states_its_answer_in_every_style(tmp_path: Path, style: str, gold: str, answer: str) -> None:
    row: Row = {
        "seethink": {"prompt": "Q?", "answer": gold},
        "trl": {"prompt": "Q?", "solution": gold},
        "easyr1": {"problem": "Q?", "answer": gold},
        "ms-swift": {"messages": [user("Q?")], "solution": gold},
        "vlm-r1": {"conversations": talk("Q?", "R"), "solution": gold},
        "verl": {"prompt": [user("Q?")], "reward_model": {"ground_truth": gold}},
    }[style]
    (result,) = read_rows(str(write(tmp_path, [row])), "train", graded=True)
    assert result.style is not None
    assert result.sample is not None, result.problem
    assert (result.style.name, result.sample.answer) == (style, answer)
