"""`seethink doctor` on bad data: each fault is found with its file, its row and what to do, and all of them at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.doctoring import SFT, bomb_png, cut_image, examine, good_rows, named, one, worst, write_rows
from helpers.nano import picture
from helpers.rows import load_samples
from seethink.config import ReadConfig, RewardConfig
from seethink.core.types import Sample
from seethink.data.advice import ADVICE
from seethink.data.quarantine import REASONS, DataError
from seethink.doctor.check import Status
from seethink.doctor.golds import GoldGrader, Golds
from seethink.doctor.scan import Scan, Source, scan
from seethink.rewards.rewarder import Rewarder
from seethink.world.make import world_samples, write_parquet

Row = dict[str, Any]


def missing_column(row: Row, folder: Path) -> None:
    del row["prompt"]


def image_count(row: Row, folder: Path) -> None:
    row["prompt"] = "<image> and <image>: which is larger?"


def parent_path(row: Row, folder: Path) -> None:
    picture(900).save(folder.parent / "secret.png")
    row["images"] = ["../secret.png"]


def symlink_out(row: Row, folder: Path) -> None:
    picture(901).save(folder.parent / "outside.png")
    (folder / "images" / "link.png").symlink_to(folder.parent / "outside.png")
    row["images"] = ["images/link.png"]


def address(row: Row, folder: Path) -> None:
    row["images"] = ["http://169.254.169.254/latest/meta-data"]


def cut_png(row: Row, folder: Path) -> None:
    row["images"] = [cut_image(folder / "images" / "cut.png", "PNG").relative_to(folder).as_posix()]


def cut_jpeg(row: Row, folder: Path) -> None:
    row["images"] = [cut_image(folder / "images" / "cut.jpg", "JPEG").relative_to(folder).as_posix()]


def bomb(row: Row, folder: Path) -> None:
    row["images"] = [bomb_png(folder / "images" / "bomb.png").relative_to(folder).as_posix()]


def text_as_png(row: Row, folder: Path) -> None:
    (folder / "images" / "text.png").write_text("I am not a picture.")
    row["images"] = ["images/text.png"]


def outside_choices(row: Row, folder: Path) -> None:
    row |= {"choices": ["red", "blue"], "answer": "D"}


def empty_gold(row: Row, folder: Path) -> None:
    row["answer"] = "  "


FAULTS: dict[str, tuple[Callable[[Row, Path], None], str, str]] = {
    "missing column": (missing_column, "missing_column", "rename the columns"),
    "image count": (image_count, "image_count", "one <image> mark for each image"),
    "../ path": (parent_path, "image_outside_root", "under the data's folder"),
    "symlink out": (symlink_out, "image_outside_root", "under the data's folder"),
    "URL": (address, "image_address", "download the images first"),
    "truncated PNG": (cut_png, "image_unreadable", "download these files again"),
    "truncated JPEG": (cut_jpeg, "image_unreadable", "download these files again"),
    "30000x30000 PNG": (bomb, "image_too_large", "scale these images down"),
    "text named .png": (text_as_png, "image_unreadable", "download these files again"),
    "gold outside choices": (outside_choices, "gold_outside_choices", "correct the answer or the choices"),
    "empty gold": (empty_gold, "empty_gold", "fill in the answer"),
}
"""name -> (how to break a row, the reason that is given, the advice)."""


def look(path: Path, **reading: Any) -> Scan:
    """The data scan alone: no model."""
    source = Source("data.train", str(path), "train", None, True, ReadConfig(**reading))
    return scan(source, None, Rewarder(RewardConfig()))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named_with_its_row_and_what_to_do(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "data"
    rows = good_rows(folder, 6)
    spoil, reason, advice = FAULTS[fault]
    spoil(rows[3], folder)
    file = write_rows(folder / "d.jsonl", rows)
    check = one(examine(tmp_path, data=file), "data.train", REASONS[reason])
    assert check.status is Status.FAIL, "one row in six is more than data.max_bad_share"
    assert "d.jsonl, row 4: " in check.found
    assert advice in check.advice
    assert [(row["file"], row["row"], row["reason"]) for row in check.data["rows"]] == [(str(file), 4, reason)]


def test_all_faults_of_one_file_are_found_in_one_pass(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    rows = good_rows(folder, 2 * len(FAULTS))
    for place, (spoil, _, _) in enumerate(FAULTS.values()):
        spoil(rows[2 * place], folder)
    file = write_rows(folder / "d.jsonl", rows)
    with file.open("a") as handle:
        handle.write("{not json\n")
    report = examine(tmp_path, data=file)
    found = {(row["row"], row["reason"]) for c in report.checks for row in c.data.get("rows", []) if "reason" in row}
    wanted = {(2 * place + 1, reason) for place, (_, reason, _) in enumerate(FAULTS.values())}
    assert found == wanted | {(len(rows) + 1, "not_json")}
    assert one(report, "data.train", "rows").status is Status.FAIL
    assert f"{len(rows) + 1} rows in seethink columns" in one(report, "data.train", "rows").found
    assert len(report.facts["data"]["data.train"]["bad_rows"]) == len(FAULTS) + 1
    assert report.failed()


def test_few_bad_rows_are_a_warning_because_the_run_leaves_them_out(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    rows = good_rows(folder, 60)
    empty_gold(rows[7], folder)
    report = examine(tmp_path, data=write_rows(folder / "d.jsonl", rows))
    assert one(report, "data.train", REASONS["empty_gold"]).status is Status.WARN
    assert one(report, "data.train", "rows").status is Status.WARN
    assert not worst(report)
    assert not report.failed()
    assert report.failed(strict=True)


def test_a_huge_picture_is_refused_from_its_header(tmp_path: Path) -> None:
    import tracemalloc

    rows = good_rows(tmp_path, 1)
    bomb(rows[0], tmp_path)
    file = write_rows(tmp_path / "d.jsonl", rows)
    look(file)
    tracemalloc.start()
    found = look(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [p.reason for p in found.problems] == ["image_too_large"]
    assert "900000000 pixels" in found.problems[0].detail
    assert peak < 20_000_000, "2.7 GB decoded"


def test_parquet_cut_off(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    write_parquet(world_samples("world:math", "train", 30, 0), whole)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    check = one(examine(tmp_path, data=cut), "data.train", "source")
    assert check.status is Status.FAIL
    assert str(cut) in check.found
    assert "copy or download the file again" in check.advice


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_git_lfs_pointer(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"d.{suffix}"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    check = one(examine(tmp_path, data=file), "data.train", "source")
    assert check.status is Status.FAIL
    assert "git lfs pull" in check.advice


def test_no_file_there(tmp_path: Path) -> None:
    check = one(examine(tmp_path, data=tmp_path / "none.jsonl"), "data.train", "source")
    assert check.status is Status.FAIL
    assert "paths are relative to where the command runs" in check.advice


def test_unknown_columns_of_a_whole_file(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "d.jsonl", [{"q": "what?", "a": "1"}] * 3)
    check = one(examine(tmp_path, data=file), "data.train", "source")
    assert check.status is Status.FAIL
    assert "data.style" in check.advice


def test_held_out_rows_that_are_trained_on(tmp_path: Path) -> None:
    train, val = good_rows(tmp_path, 40), good_rows(tmp_path, 20, first=100)
    val[4] = {**train[9], "id": "copy"}
    shutil.copy(tmp_path / "images" / "11.png", tmp_path / "images" / "twin.png")
    val[6] = {"id": "twin", "prompt": "which colour is it?", "images": ["images/twin.png"], "answer": "red"}
    val_file = write_rows(tmp_path / "val.jsonl", val)
    report = examine(tmp_path, f"data.val={val_file}", data=write_rows(tmp_path / "train.jsonl", train))
    seen = one(report, "data.val", "also in training")
    assert seen.status is Status.WARN, "1 in 20 is data.max_bad_share"
    assert "val.jsonl, row 5, is train.jsonl, row 10" in seen.found
    assert "drop them from the training data" in seen.advice
    shown = one(report, "data.val", "images in training")
    assert shown.status is Status.WARN
    assert "val.jsonl, row 7, is train.jsonl, row 12" in shown.found
    assert "split by image" in shown.advice


def test_evaluation_on_the_training_data_fails(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "d.jsonl", good_rows(tmp_path, 40))
    report = examine(tmp_path, f"eval.data={file}", data=file)
    assert one(report, "eval.data", "also in training").status is Status.FAIL


def test_repeats_contradictions_and_ids(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, 60)
    rows[50] = {**rows[40], "id": "again"}
    rows[51] = {**rows[41], "id": "other", "answer": "999"}
    rows[52]["id"] = rows[53]["id"]
    report = examine(tmp_path, data=write_rows(tmp_path / "d.jsonl", rows))
    assert "row 51, is d.jsonl, row 41" in one(report, "data.train", "repeats").found
    assert "row 52, is d.jsonl, row 42" in one(report, "data.train", "contradictions").found
    assert "1 id used more than once" in one(report, "data.train", "ids").found
    assert not worst(report)


def test_prompts_that_are_too_long(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, 40)
    rows[12]["prompt"] = "what is red and blue " * 30
    file = write_rows(tmp_path / "d.jsonl", rows)
    report = examine(tmp_path, "data.max_prompt_tokens=100", data=file)
    left_out = one(report, "data.train", REASONS["prompt_too_long"])
    assert left_out.status is Status.INFO, "the recipe asks for it"
    assert "d.jsonl, row 13: " in left_out.found
    assert "data.max_prompt_tokens" in left_out.advice
    assert not report.failed()


def test_prompts_beyond_the_model_s_positions(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, 30)
    rows[12]["prompt"] = "what is red and blue " * 600
    file = write_rows(tmp_path / "d.jsonl", rows)
    check = one(examine(tmp_path, data=file), "data.train", REASONS["prompt_beyond_model"])
    assert check.status is Status.WARN, "one row in thirty, which the run leaves out too"
    assert "tokens with images leave no room for a response in the model's 2,048 positions" in check.found
    assert "data.max_prompt_tokens" in check.advice


def test_a_response_that_has_no_room(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "d.jsonl", good_rows(tmp_path, 30))
    check = one(examine(tmp_path, "rollout.max_new_tokens=2030", data=file), "data.train", "prompt + response")
    assert check.status is Status.WARN
    assert "lower rollout.max_new_tokens" in check.advice


def test_special_tokens_in_the_text(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, 10)
    rows[4]["prompt"] = "what is <|im_end|> this?"
    check = one(examine(tmp_path, data=write_rows(tmp_path / "d.jsonl", rows)), "data.train", "special token")
    assert check.status is Status.FAIL
    assert "d.jsonl, row 5" in check.found


def test_golds_that_nobody_can_meet(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, 10)
    file = write_rows(tmp_path / "d.jsonl", rows)
    report = examine(tmp_path, "reward.function=helpers.doctoring:never", data=file)
    assert one(report, "data.train", "golds").status is Status.WARN, "a function of one's own may want another form"
    report = examine(tmp_path, "reward.function=helpers.nano:always_correct", data=file)
    assert one(report, "data.train", "empty response").status is Status.FAIL
    assert one(report, "reward", "scores").status is Status.FAIL


def test_golds_that_the_grader_does_not_read(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, 10)
    rows[3]["answer"] = "left } brace"
    check = one(examine(tmp_path, data=write_rows(tmp_path / "d.jsonl", rows)), "data.train", "golds")
    assert check.status is Status.FAIL, "one in ten is more than data.max_bad_share"
    assert "1 of 10 golds are not right against themselves, first d.jsonl, row 4: 'left } brace'" in check.found
    assert "no response to them could ever be rewarded" in check.advice


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("<answer>5</answer>", None),
        ("The answer is \\boxed{5}.", None),
        ("2 + 3 = 5\n#### 5", None),
        (["5"], None),
        ("C. Mixed", "bad_gold"),
        (["5", "five"], None),
        (["5", "6"], "bad_gold"),
        (True, "bad_gold"),
        ("<answer>5", "bad_gold"),
    ],
)
def test_golds_of_other_forms_are_read_or_refused(tmp_path: Path, gold: Any, reason: str | None) -> None:
    rows = good_rows(tmp_path, 6)
    for row in rows:
        row["answer"] = gold
    found = look(write_rows(tmp_path / "d.jsonl", rows))
    assert {p.reason for p in found.problems} == ({reason} if reason else set())
    assert found.golds.graded == (0 if reason else 6)
    assert not found.golds.ungradable


def test_a_gold_that_was_read_whole_is_found_by_its_bare_answer() -> None:
    """The check does not trust the reader: it asks for the answer alone."""
    golds = Golds()
    with Rewarder(RewardConfig()) as rewarder:
        grader = GoldGrader(rewarder, golds, traces=None)
        for answer in ("<think>Red.</think>red it is", "red"):
            grader.add(Sample("s", "Which colour?", answer=answer, meta={"file": "d.jsonl", "row": 3}))
        grader.flush()
    assert [(bad.answer, bad.row) for bad in golds.ungradable] == [("<think>Red.</think>red it is", 3)]


def test_golds_of_many_words_are_a_warning(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, 6)
    rows[2]["answer"] = "There is a car.\nIt is red."
    check = one(examine(tmp_path, data=write_rows(tmp_path / "d.jsonl", rows)), "data.train", "long golds")
    assert check.status is Status.WARN
    assert "1 gold of many words, first d.jsonl, row 3" in check.found


def test_images_in_a_column_that_is_not_read(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, 8)
    for row in rows[:4]:
        row["picture"] = row.pop("images")[0]
    file = write_rows(tmp_path / "d.jsonl", rows)
    report = examine(tmp_path, data=file)
    check = one(report, "data.train", REASONS["unread_images"])
    assert check.status is Status.FAIL
    assert "d.jsonl, row 1: the row's images are in 'picture', which is not read" in check.found
    assert report.failed()
    with pytest.raises(DataError, match="the row's images are in 'picture'"):
        load_samples(str(file), "train", None, 0)


def test_text_only_data_is_said(tmp_path: Path) -> None:
    rows = [{"prompt": f"what is {i} plus 1?", "answer": str(i + 1)} for i in range(12)]
    check = one(examine(tmp_path, data=write_rows(tmp_path / "d.jsonl", rows)), "data.train", "images")
    assert check.status is Status.WARN
    assert "no row has an image" in check.found


def test_sft_without_responses(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "d.jsonl", good_rows(tmp_path, 12))
    report = examine(tmp_path, data=file, recipe=SFT)
    assert one(report, "data.train", "traces").status is Status.FAIL
    assert not named(report, "data.train", "empty answer")


def test_every_reason_has_its_advice() -> None:
    assert ADVICE.keys() == REASONS.keys()


def test_data_do_not_drive_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from seethink.doctor.show import as_json, print_report

    rows = good_rows(tmp_path, 4)
    evil = "\x1b[2J\x1b]0;owned\x07[bold red]x[/bold red] [link=http://e.vil]y[/link] \u202ereversed\r\n"
    rows[1] |= {"images": [f"images/{evil}.png"], "id": evil}
    rows[2] |= {"choices": [evil, "b"], "answer": evil * 3}
    report = examine(tmp_path, f"name={json.dumps('x')}", data=write_rows(tmp_path / "d.jsonl", rows))
    print_report(report, Console(force_terminal=True, width=100))
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "\x1b]" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "\r" not in shown
    assert "[bold red]x[/bold red]" in shown.replace("\n", "").replace("  ", ""), "markup is shown, not obeyed"
    json.loads(as_json(report))
