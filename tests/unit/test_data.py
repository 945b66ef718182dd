"""Files and folders -> samples: every form that peers write, and errors that name the file, the row and the cure."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers.rows import (
    Row,
    load,
    load_samples,
    png,
    read_rows,
    row,
    write_arrow_file,
    write_jsonl,
    write_parquet,
    write_stream,
)
from seethink.config import EvalConfig, ReadConfig, RewardConfig
from seethink.core.types import Grade, Sample, Verdict
from seethink.data.draws import Draws
from seethink.data.lengths import load_fitting
from seethink.data.order import fingerprint, refuse_changed_data, shuffled
from seethink.data.quarantine import DataError, Quarantine
from seethink.data.rows import RowReader
from seethink.data.styles import STATED
from seethink.eval.tasks.source import eval_samples
from seethink.rewards import grader, rewarder
from seethink.rewards.golds import bare_answers, read_gold, shown_gold


def one(tmp_path: Path, **changes: Any) -> Sample:
    return load(write_jsonl(tmp_path / "d.jsonl", [row(**changes)]))[0]


def problem(tmp_path: Path, **changes: Any) -> tuple[str, str]:
    """(reason, detail) that is said of a bad second row."""
    path = write_jsonl(tmp_path / "bad.jsonl", [row(), row(**changes), row()])
    first, second, third = read_rows(str(path), "train")
    assert first.sample
    assert third.sample
    assert second.sample is None
    assert second.problem is not None
    assert (second.problem.file, second.problem.row, second.problem.id) == (str(path), 2, "bad-2")
    assert "\n" not in second.problem.detail
    return second.problem.reason, second.problem.detail


@pytest.mark.parametrize(
    ("name", "write"),
    [("d.jsonl", write_jsonl), ("d.parquet", write_parquet), ("d.arrow", write_stream), ("e.arrow", write_arrow_file)],
)
def test_every_file_format(tmp_path: Path, name: str, write: Callable[[Path, list[Row]], Path]) -> None:
    rows = [row(prompt=f"Question {i}?", answer=str(i), domain="d", difficulty="hard", id=f"r{i}") for i in range(5)]
    path = write(tmp_path / name, rows)
    samples = load(path)
    assert [(s.id, s.question, s.answer) for s in samples] == [(f"r{i}", f"Question {i}?", str(i)) for i in range(5)]
    assert {(s.domain, s.difficulty, s.response, s.images, s.choices) for s in samples} == {("d", "hard", None, (), ())}
    assert len(load(path, size=2)) == 2
    assert len(load(path, size=50)) == 5


def test_defaults(tmp_path: Path) -> None:
    for nothing in ({}, dict.fromkeys(("id", "domain", "difficulty"), float("nan"))):
        sample = one(tmp_path, **nothing)
        assert (sample.id, sample.domain, sample.difficulty) == ("d-1", "default", "normal")
    assert one(tmp_path, id=0).id == "0"


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [row()])
    path.write_text(f"\n{path.read_text()}\n\n", encoding="utf-8")
    assert len(load(path)) == 1


@pytest.mark.parametrize(
    ("columns", "question", "response"),
    [
        ({"prompt": "Q?"}, "Q?", None),
        ({"prompt": "Q?", "response": "R"}, "Q?", "R"),
        ({"prompt": [{"role": "user", "content": "Q?"}]}, "Q?", None),
        ({"messages": [{"role": "user", "content": "Q?"}]}, "Q?", None),
        ({"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "R"}]}, "Q?", "R"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q?"}]}]},
            "<image>Q?",
            None,
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Q?"}]},
                    {"role": "assistant", "content": [{"type": "text", "text": "R"}]},
                ]
            },
            "Q?",
            "R",
        ),
    ],
)
def test_prompts_and_messages(tmp_path: Path, columns: Row, question: str, response: str | None) -> None:
    images = [{"bytes": png()}] if "<image>" in question else []
    path = write_parquet(tmp_path / "d.parquet", [{"answer": "3", "images": images, **columns}])
    sample = load(path)[0]
    assert (sample.question, sample.response) == (question, response)


def test_every_form_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(png())
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    for images in (["images/a.png"], "images/a.png", {"path": "images/a.png"}, [uri], uri):
        sample = one(tmp_path, images=images)
        assert [image.getpixel((0, 0)) for image in sample.pictures()] == [(10, 0, 0)], images
    assert len(one(tmp_path, image="images/a.png").images) == 1
    assert one(tmp_path, image=None).images == ()
    assert one(tmp_path, images=[]).images == ()
    for column in ({"images": [{"bytes": png(), "path": None}]}, {"image": {"bytes": png(), "path": None}}):
        assert len(load(write_parquet(tmp_path / "d.parquet", [row(**column)]))[0].images) == 1


def test_image_root(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png())
    path = write_jsonl(tmp_path / "rows" / "d.jsonl", [row(images=["a.png"])])
    assert load(path, root=tmp_path / "pictures")[0].images[0].size == (6, 6)
    with pytest.raises(DataError, match=r"1 of 1 rows are bad.*row 1: no image at 'a\.png'"):
        load(path)


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"prompt": None}, "missing_column", "expected messages or prompt or question; found columns answer, prompt"),
        ({"prompt": " "}, "bad_message", "the question is empty"),
        ({"prompt": 7}, "bad_message", "expected a text or a list of turns, found 7"),
        ({"prompt": ["a", "b"]}, "bad_message", "expected a text or a list of turns, found list"),
        ({"prompt": [{"role": "system", "content": "S"}]}, "bad_message", "expected one user turn, found 0"),
        ({"prompt": [{"role": "user", "content": "a"}] * 2}, "multi_turn", "found 2"),
        ({"prompt": [{"role": "user", "content": None}]}, "bad_message", "a list of parts, not NoneType"),
        ({"prompt": [{"role": "tool", "content": "x"}]}, "bad_message", "unknown role 'tool'"),
        ({"answer": None}, "missing_column", "need a non-empty 'answer'"),
        ({"answer": ""}, "empty_gold", "needs a non-empty 'answer'"),
        ({"answer": "  "}, "empty_gold", "'answer' is empty: the row needs a non-empty 'answer'"),
        ({"answer": float("nan")}, "empty_gold", "'answer' is empty"),
        ({"answer": float("inf")}, "bad_gold", "'answer': expected text or a finite number, found inf"),
        ({"answer": False}, "bad_gold", """'answer': expected text or a number, found false; write what"""),
        ({"answer": "nan"}, "bad_gold", "found 'nan'"),
        ({"answer": [1, 2]}, "bad_gold", "'answer': expected one answer or several texts, found a list of 2"),
        ({"images": ["../x.png"]}, "image_outside_root", "leads out of"),
        ({"images": ["none.png"]}, "image_missing", "no image at 'none.png'"),
        ({"images": ["https://x.org/a.png"]}, "image_address", "not fetched"),
        ({"images": [7]}, "image_source", "an image must be a path"),
        ({"images": [None, "a.png"]}, "image_source", "'images': image 1 is empty"),
        ({"prompt": "<image> and <image>?", "images": []}, "image_count", "2 <image> marks but there are 0 images"),
        ({"choices": ["a", "<image>"], "answer": "A"}, "image_count", "1 <image> marks but there are 0 images"),
        (
            {"choices": ["a", "b"], "answer": "C"},
            "gold_outside_choices",
            "expected a letter A to B or the text of a choice, found 'C'",
        ),
        ({"choices": ["a", "b", "c"], "answer": "AX"}, "gold_outside_choices", "found 'AX'"),
        ({"choices": [str(i) for i in range(27)], "answer": "3"}, "bad_choices", "27 choices; at most 26"),
        ({"choices": "A. one B. two", "answer": "A"}, "bad_choices", "'choices' must be a list"),
        ({"answer_type": "numbr"}, "bad_answer_type", "expected one of number, fraction, "),
        ({"answer_type": 1}, "bad_answer_type", "expected the name of a type, found int"),
        ({"answer_type": "number", "answer": "\\frac{1}{"}, "bad_gold", "answer of type 'number', found '"),
        ({"videos": ["a.mp4"]}, "video_missing", "'videos', video 1: no video at 'a.mp4'"),
    ],
)
def test_a_bad_row_is_named_with_its_problem(tmp_path: Path, changes: Row, reason: str, said: str) -> None:
    found, detail = problem(tmp_path, **changes)
    assert found == reason
    assert said in detail


@pytest.mark.parametrize(("answer", "letter"), [("B", "B"), ("b", "B"), ("4", "B"), (4, "B"), (" B ", "B")])
def test_the_gold_of_a_choice_is_its_letter(tmp_path: Path, answer: Any, letter: str) -> None:
    sample = one(tmp_path, choices=["3", 4, "5"], answer=answer)
    assert (sample.answer, sample.choices) == (letter, ("3", "4", "5"))


@pytest.mark.parametrize(("answer", "gold"), [(3, "3"), (0.5, "0.5"), (" x ", "x"), (0, "0"), (3.0, "3")])
def test_an_answer_without_choices_is_text(tmp_path: Path, answer: Any, gold: str) -> None:
    assert one(tmp_path, answer=answer).answer == gold


def test_the_type_of_an_answer_is_read_and_kept(tmp_path: Path) -> None:
    plain, typed = one(tmp_path), one(tmp_path, answer_type="number")
    assert (plain.answer_type, typed.answer_type) == (None, "number")
    assert fingerprint([plain]) != fingerprint([replace(typed, meta=plain.meta)])


def test_the_type_reaches_the_grader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training and in evaluation, which load their samples by one function and grade them by one object."""
    path = str(write_jsonl(tmp_path / "d.jsonl", [row(answer_type="number"), row()]))
    trained = load_fitting(path, "train", None, 0, None, ReadConfig(), Quarantine(), golds=read_gold, graded=True)
    evaluated = eval_samples(EvalConfig(data=path), 0)
    types: list[str | None] = []

    def recorded(items: Sequence[grader.Item]) -> list[Grade]:
        types.extend(answer_type for _, _, answer_type, *_ in items)
        return grader.grade_batch(items)

    monkeypatch.setattr(rewarder, "grade_batch", recorded)
    with rewarder.Rewarder(RewardConfig()) as grading:
        grades = grading.grade([(sample, "\\boxed{3}") for sample in (*trained, *evaluated)])
    assert types == ["number", None, "number", None]
    assert {grade.verdict for grade in grades} == {Verdict.CORRECT}


def test_each_of_several_golds_is_right_in_training_and_in_evaluation(tmp_path: Path) -> None:
    path = str(
        write_jsonl(tmp_path / "d.jsonl", [row(answer=["24/7", "The answer is \\boxed{3.429}."]), row(answer="5")])
    )
    trained = load_fitting(path, "train", None, 0, None, ReadConfig(), Quarantine(), golds=read_gold, graded=True)
    evaluated = eval_samples(EvalConfig(data=path), 0)
    said = ["\\boxed{24/7}", "\\boxed{3.429}", "\\boxed{24/7} or \\boxed{3.5}", "\\boxed{5}"]
    wanted = [Verdict.CORRECT, Verdict.CORRECT, Verdict.WRONG, Verdict.WRONG]
    for samples in (trained, evaluated):
        assert [sample.answer for sample in samples] == ['["24/7", "3.429"]', "5"]
        assert bare_answers(samples[0].answer, ()) == ["24/7", "3.429"]
        assert shown_gold(samples[0].answer) == "24/7 or 3.429"
        with rewarder.Rewarder(RewardConfig()) as grading:
            assert [grade.verdict for grade in grading.grade([(samples[0], text) for text in said])] == wanted


def test_marks_that_match_the_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    assert len(one(tmp_path, prompt="<image> or <image>?", images=["a.png", "a.png"]).images) == 2
    assert len(one(tmp_path, prompt="No mark?", images=["a.png", "a.png"]).images) == 2


def test_a_trace_needs_no_answer_but_grading_does(tmp_path: Path) -> None:
    assert one(tmp_path, answer=None, response="A caption.").answer == ""
    path = write_jsonl(tmp_path / "d.jsonl", [row(response="R"), row(answer="", response="R")])
    assert len(load(path)) == 2
    reasons = [r.problem and r.problem.reason for r in read_rows(str(path), "train", graded=True)]
    assert reasons == [None, "empty_gold"]


def test_a_column_that_is_missing_everywhere_is_one_clear_error(tmp_path: Path) -> None:
    traces = write_jsonl(tmp_path / "d.jsonl", [{"prompt": "Q?", "response": "R", "note": 1}] * 3)
    with pytest.raises(DataError, match=r"in every row seethink columns need a non-empty 'answer': answer or solution"):
        load_samples(str(traces), "train", None, 0, graded=True)
    strange = write_jsonl(tmp_path / "s.jsonl", [{"text": "Q?", "gold": 3}] * 3)
    with pytest.raises(DataError) as error:
        load(strange)
    said = "s.jsonl: missing columns. Expected a question in one of conversations, prompt, problem, query, messages"
    assert said in str(error.value)
    assert "found columns gold, text" in str(error.value)


@pytest.mark.parametrize(
    "layout",
    [
        ["{}/data-00000-of-00002.arrow", "{}/data-00001-of-00002.arrow"],
        ["data/{}-00000-of-00002.parquet", "data/{}-00001-of-00002.parquet"],
        ["{}-00000-of-00002.parquet", "{}-00001-of-00002.parquet"],
        ["{}_0.jsonl", "{}_1.jsonl"],
    ],
)
def test_folders_keep_their_splits_apart_and_their_shards_together(tmp_path: Path, layout: list[str]) -> None:
    writers = {".arrow": write_stream, ".parquet": write_parquet, ".jsonl": write_jsonl}
    for split in ("train", "validation", "test"):
        for shard, name in enumerate(layout):
            path = tmp_path / name.format(split)
            writers[path.suffix](path, [row(prompt=f"{split} {shard} {i}") for i in range(3)])
    for split, stored in (("train", "train"), ("val", "validation"), ("test", "test")):
        expected = [f"{stored} {shard} {i}" for shard in range(2) for i in range(3)]
        assert [s.question for s in load(tmp_path, split)] == expected
    assert [s.question for s in load(tmp_path, "train", size=4)] == [f"train {n}" for n in ("0 0", "0 1", "0 2", "1 0")]


def test_a_folder_without_the_split_is_refused(tmp_path: Path) -> None:
    """Falling back on another split would test on what was trained on."""
    write_parquet(tmp_path / "train-00000-of-00001.parquet", [row()])
    with pytest.raises(DataError, match="holds no test split, only train"):
        load(tmp_path, "test")


def test_a_folder_that_names_no_split_is_read_whole(tmp_path: Path) -> None:
    write_stream(tmp_path / "data-00000-of-00002.arrow", [row(prompt="a")])
    write_stream(tmp_path / "data-00001-of-00002.arrow", [row(prompt="b")])
    write_stream(tmp_path / "cache-1234.arrow", [row(prompt="left over")])
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "dataset_info.json").write_text("{}")
    assert [s.question for s in load(tmp_path)] == ["a", "b"]


def test_the_world_needs_a_size() -> None:
    with pytest.raises(DataError, match="is endless: give a size"):
        load_samples("world:math", "train", None, 0)
    with pytest.raises(DataError, match="no domain 'maths'"):
        load_samples("world:maths", "train", 1, 0)
    assert len(load_samples("world:math", "train", 3, 0)) == 3


def test_to_sample_keeps_what_it_is_given() -> None:
    given = row(choices=["x", "y"], answer="y", response="R", id=7, domain="d", difficulty="easy")
    sample = RowReader(STATED["seethink"], None, ReadConfig(), read_gold).to_sample(given, "unused")
    assert sample == Sample("7", "How many?", (), "B", ("x", "y"), domain="d", difficulty="easy", response="R")


def test_where_a_sample_came_from(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "d.jsonl", [row(), row()])
    assert [s.meta for s in load(path)] == [{"file": str(path), "row": i} for i in (1, 2)]


def test_rows_are_read_in_order_and_always_alike(tmp_path: Path) -> None:
    """Small and large pictures take different times in the threads that check them."""
    for name, side in (("large", 1500), ("small", 4)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{name}.png")
    names = ["large" if i % 7 == 0 else "small" if i % 5 else "none" for i in range(120)]
    path = write_jsonl(tmp_path / "d.jsonl", [row(images=[f"{name}.png"], id=str(i)) for i, name in enumerate(names)])
    first, second = (list(read_rows(str(path), "train")) for _ in range(2))
    assert first == second
    assert [r.row for r in first] == list(range(1, 121))
    assert [r.problem is not None for r in first] == [name == "none" for name in names]
    assert fingerprint([r.sample for r in first if r.sample]) == fingerprint([r.sample for r in second if r.sample])


def test_a_source_says_once_how_its_columns_were_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"problem": "<image>Q?", "answer": "3", "images": ["a.png"], "[red]": 1}] * 1200
    (tmp_path / "a.png").write_bytes(png())
    path = write_jsonl(tmp_path / "d.jsonl", rows)
    load(path)
    assert f"{path}: 1,200 rows in EasyR1 columns (problem, answer, images)" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("change", [{"prompt": "other"}, {"answer": "4"}, {"image": "b.png"}, None])
def test_a_resumed_run_refuses_other_data(tmp_path: Path, change: Row | None) -> None:
    for name, shade in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.png").write_bytes(png(shade))
    rows = [row(image="a.png", id=str(i)) for i in range(3)]
    before = load(write_jsonl(tmp_path / "d.jsonl", rows))
    refuse_changed_data(tmp_path, before, resuming=False)
    refuse_changed_data(tmp_path, before, resuming=True)
    after = load(
        write_jsonl(tmp_path / "d.jsonl", [rows[0], {**rows[1], **(change or {})}, rows[2]][: 3 if change else 2])
    )
    with pytest.raises(DataError, match=r"cannot resume .*delete .*data\.sha256 to go on"):
        refuse_changed_data(tmp_path, after, resuming=True)
    (tmp_path / "data.sha256").unlink()
    refuse_changed_data(tmp_path, after, resuming=True)
    refuse_changed_data(tmp_path, after, resuming=True)


def test_an_epoch_is_a_permutation_that_seed_and_number_decide() -> None:
    assert sorted(shuffled(100, 0, 0)) == list(range(100))
    assert shuffled(100, 0, 0) == shuffled(100, 0, 0)
    assert shuffled(100, 0, 0) != shuffled(100, 0, 1)
    assert shuffled(100, 0, 0) != shuffled(100, 1, 0)


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 20, 700])
def test_the_endless_order_goes_on_from_anywhere(start: int) -> None:
    whole = [place for epoch in range((start + 25) // 7 + 1) for place in shuffled(7, 3, epoch)]
    assert Draws([range(7)], [1.0], 3).take(start, 25) == whole[start : start + 25]
    assert all(sorted(whole[i : i + 7]) == list(range(7)) for i in range(0, len(whole) - 6, 7))
