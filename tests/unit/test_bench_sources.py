"""Every benchmark through every layout of its data: the same items, images where they stand, wrong files refused."""

from __future__ import annotations

import doctest
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from helpers.benchmarks import (
    LAYOUTS,
    b64,
    hallusion_json,
    logicvista_json,
    mathverse_hub,
    mmbench_tsv,
    mme_tsv,
    mmk12_hub,
    mmmu_hub,
    mmmu_pro_hub,
    mmmu_tsv,
    mmstar_hub,
    mmstar_tsv,
    phyx_hub,
    png,
    seephys_hub,
    small,
    wemath_json,
    write_json,
    write_tsv,
)
from seethink.core.types import Verdict
from seethink.data.chat import _with_choices
from seethink.data.images import check_image
from seethink.eval.bench.benchmark import BenchError, Item
from seethink.eval.bench.download import download
from seethink.eval.bench.grading import gold_problem
from seethink.eval.bench.load import load
from seethink.eval.bench.prompts import MARK, place_images
from seethink.eval.bench.rows import RowsError
from seethink.eval.tasks import mathverse, mmstar
from seethink.eval.tasks.registry import BENCHMARKS, PAPER, chosen
from seethink.studies.benchmarks.inspection import _odd, _rotations, _ungraded, list_lines

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "benchmarks" / "data"


def items_of(name: str, write: Callable[[Path], None], root: Path) -> tuple[Item, ...]:
    write(root)
    return load(small(name), root).items


@pytest.mark.parametrize(("name", "write"), LAYOUTS, ids=lambda x: getattr(x, "__name__", x))
def test_every_layout_gives_items_that_can_be_asked_and_graded(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    items = items_of(name, write, tmp_path)
    assert items
    for item in items:
        assert item.images
        assert item.question.count(MARK) in (0, len(item.images))
        assert _with_choices(item.sample()) == item.question  # a chat template adds no second list of options
        assert gold_problem(item) is None or item.meta.get("special")
    graded = [item for item in items if item.gold]
    grades = BENCHMARKS[name].grade([(item, f"So it is \\boxed{{{item.gold}}}") for item in graded])
    tried = [(i.gold, g.reason) for i, g in zip(graded, grades, strict=True) if g.verdict is not Verdict.CORRECT]
    assert tried == [] or name == "mmmu"  # a list of golds is no answer
    bare = load(small(name), tmp_path, images=False).items
    assert [(i.id, i.gold, i.choices, i.images) for i in bare] == [(i.id, i.gold, i.choices, ()) for i in items]


@pytest.mark.parametrize("name", sorted({name for name, _ in LAYOUTS}))
def test_layouts_of_one_benchmark_agree(name: str, tmp_path: Path) -> None:
    def brief(item: Item) -> tuple[object, ...]:
        return item.id, item.question, item.gold, item.choices, dict(item.groups), [i.sha256 for i in item.images]

    found = [
        [brief(item) for item in items_of(name, write, tmp_path / write.__name__)]
        for layout, write in LAYOUTS
        if layout == name
    ]
    assert all(one == found[0] for one in found)


def test_mmmu_images_stand_at_their_marks_also_as_options(tmp_path: Path) -> None:
    items = items_of("mmmu", mmmu_hub, tmp_path)
    assert items[0].question == (
        "Question: Which is like <image>?\nOptions:\nA. <image>\nB. a circle\n"
        "Please select the correct answer from the options above."
    )
    assert [image.encoded() for image in items[0].images] == [png(1), png(2)]
    assert (items[1].question, items[1].choices, items[1].gold) == ("How many? <image>", (), "['24/7', '3.429']")
    grades = BENCHMARKS["mmmu"].grade([(items[1], "It is \\boxed{3.429}"), (items[1], "\\boxed{3.43}")])
    assert [grade.verdict for grade in grades] == [Verdict.CORRECT, Verdict.WRONG]
    assert items[2].question.startswith("<image>Question: Pick.")
    assert items[0].category == "Math"


def test_mmmu_leaves_the_dev_split_out(tmp_path: Path) -> None:
    assert [item.id for item in items_of("mmmu", mmmu_tsv, tmp_path)] == [f"validation_Math_{n}" for n in (1, 2, 3)]


def test_mmmu_pro_has_three_variants(tmp_path: Path) -> None:
    items = items_of("mmmu-pro", mmmu_pro_hub, tmp_path)
    assert {(item.groups["variant"], len(item.choices)) for item in items} == {
        ("standard 10", 5), ("standard 4", 4), ("vision", 5),
    }  # fmt: skip
    assert {item.groups["question"] for item in items} == {"test_Art_1"}


def test_mmbench_rotations_share_an_image_by_its_index(tmp_path: Path) -> None:
    items = items_of("mmbench", mmbench_tsv, tmp_path)
    assert {item.groups["question"] for item in items} == {"7"}
    assert {image.sha256 for item in items for image in item.images} == {items[0].images[0].sha256}
    assert ("Hint: Look." in items[0].question, "Hint" in items[1].question) == (True, False)
    assert [item.gold for item in items] == ["B", "A", "C"]


def test_hallusionbench_drops_what_has_no_image(tmp_path: Path) -> None:
    items = items_of("hallusionbench", hallusion_json, tmp_path)
    assert [item.gold for item in items] == ["Yes", "No", "No", "Yes"]
    assert items[0].groups == {"set": "VD/ocr/0", "figure": "VD/ocr/0/0", "question": "VD/ocr/0/q0"}


def test_mathverse_takes_vision_only_and_repairs_degrees(tmp_path: Path) -> None:
    items = items_of("mathverse", mathverse_hub, tmp_path)
    assert [(item.id, item.gold, item.options) for item in items] == [("1", "B", 3), ("2", "118°", 0)]


def test_wemath_options(tmp_path: Path) -> None:
    items = items_of("wemath", wemath_json, tmp_path)
    assert [item.choices for item in items[:2]] == [("1", "2", "3"), ("1; x", "2", "3")]
    assert items[2].groups == {"steps": "2steps_0", "part": "multi"}


def test_phyx_reads_options_out_of_one_text_and_no_description(tmp_path: Path) -> None:
    (item,) = items_of("phyx", phyx_hub, tmp_path)
    assert item.choices == ("3 m/s", "4 m/s", '5 m/s, say "five"', "6 m/s")
    assert "A ball falls" not in item.question


def test_seephys_asks_in_the_language_of_the_question(tmp_path: Path) -> None:
    english, chinese = items_of("seephys", seephys_hub, tmp_path)
    assert "3 significant figures" in english.question
    assert "有效数字" not in chinese.question
    assert "标签" in chinese.question
    assert len(english.images) == 2


def test_mme_keeps_what_its_puzzles_need(tmp_path: Path) -> None:
    items = items_of("mme-reasoning", mme_tsv, tmp_path)
    assert [item.meta["function"] for item in items[1:]] == [
        "judge_24points_function", "calculate_answer_function_sudoku_4",
    ]  # fmt: skip
    assert len(items[2].images) == 2


# ---- counts, samples, and what is refused ----


def test_another_number_of_items_is_refused(tmp_path: Path) -> None:
    logicvista_json(tmp_path)
    with pytest.raises(BenchError, match=r"logicvista: expected 447 items, found 3 in dataset.json: another split"):
        load(BENCHMARKS["logicvista"], tmp_path)
    with pytest.raises(BenchError, match=r"inductive: expected 2, found 3; spatial: expected 1, found 0"):
        load(small("logicvista", expect={"inductive": 2, "spatial": 1}), tmp_path)
    assert len(load(small("logicvista", expect={"inductive": 3}), tmp_path).items) == 3


def test_no_data_says_which_files_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"mmstar: no data under .*Lin-Chen/MMStar on the hub.*VLMEvalKit's MMStar"):
        load(BENCHMARKS["mmstar"], tmp_path)


def test_an_item_of_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    row = {"index": 0, "question": "Q", "A": "1", "B": "2", "answer": "A", "category": "math", "image": b64(1)}
    write_tsv(tmp_path, "MMStar", [row, row])
    with pytest.raises(BenchError, match="holds '0' twice"):
        load(small("mmstar"), tmp_path)


@pytest.mark.parametrize("image", ["../secret.png", "/etc/passwd", "images/../../secret.png"])
def test_no_image_path_leaves_the_folder(image: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    rows = [{"id": "1", "question": "Q", "options": [], "answer": "1", "subject": "algebra", "image": image}]
    write_json(tmp_path / "data", "test.jsonl", rows, {})
    with pytest.raises(RowsError, match="row 1: column 'image'"):
        load(small("mathvision"), tmp_path / "data")


def test_a_missing_column_names_file_row_and_columns(tmp_path: Path) -> None:
    write_tsv(tmp_path, "MMStar", [{"index": 0, "question": "Q", "A": "1", "B": "2", "image": b64(1)}])
    with pytest.raises(RowsError, match=r"MMStar.tsv, row 2: column 'answer' is missing or empty; columns: index"):
        load(small("mmstar"), tmp_path)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "testmini.json").write_text('{"ID": ')
    with pytest.raises(RowsError, match=r"testmini.json cannot be read: .*; fetch it again"):
        load(small("wemath"), tmp_path)


@pytest.mark.parametrize("content", ["7", "null", "[1, 2]", "[" * 100_000], ids=["number", "null", "numbers", "deep"])
def test_a_file_of_no_objects_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "testmini.json").write_text(content)
    with pytest.raises(RowsError, match=r"testmini.json cannot be read: .*; fetch it again"):
        load(small("wemath"), tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "testmini.json")
    with pytest.raises(RowsError, match="is a pipe, where a file was expected"):
        load(small("wemath"), tmp_path)


def test_a_cell_too_many_is_no_matter_and_one_too_few_is_named(tmp_path: Path) -> None:
    mmstar_tsv(tmp_path)
    (table,) = tmp_path.glob("*.tsv")
    head, row = table.read_text().splitlines()
    table.write_text(f"{head}\n{row}\textra\n")
    assert len(load(small("mmstar"), tmp_path).items) == 1
    table.write_text(f"{head.replace('answer', 'gold')}\n{row}\textra\n")
    with pytest.raises(RowsError, match="column 'answer' is missing"):
        load(small("mmstar"), tmp_path)


def test_a_packed_folder_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "all.zip").write_bytes(b"PK")
    with pytest.raises(BenchError, match=r"all.zip is none of its files; unpack the archive; expected"):
        load(small("wemath"), tmp_path / "all.zip")


def test_data_may_lie_in_a_folder_of_the_benchmarks_name(tmp_path: Path) -> None:
    mmstar_tsv(tmp_path / "mmstar")
    wemath_json(tmp_path / "wemath")
    assert len(load(small("mmstar"), tmp_path).items) == 1
    assert len(load(small("wemath"), tmp_path).items) == 6


def test_a_sample_is_stratified_keeps_groups_whole_and_grows(tmp_path: Path) -> None:
    wemath_json(tmp_path)
    part = load(small("wemath"), tmp_path, limit=2)
    assert (len(part.items), part.total, part.is_whole) == (3, 6, False)
    assert len({item.groups["steps"] for item in part.items}) == 1
    assert set(part.places) < set(load(small("wemath"), tmp_path, limit=5).places)
    logicvista_json(tmp_path / "b", 30)
    places = [load(small("logicvista"), tmp_path / "b", limit=5, seed=seed, images=False).places for seed in (0, 0, 1)]
    assert places[0] == places[1] != places[2]


def test_a_check_names_golds_that_nothing_equals_missing_images_and_copies() -> None:
    picture = check_image(png(1), None)
    items = (
        Item("a", "How many?", " ", (picture,)), Item("b", "How many?", "3"), Item("c", "Why?", "4", (picture,)),
        Item("d", "Why?", "4", (check_image(png(1), None),)),
    )  # fmt: skip
    assert [(item.id, why) for item, why in _ungraded(BENCHMARKS["mathvision"], items)] == [("a", "no answer")]
    assert _odd(items) == ["without an image: 1 items, b", "the same question and images: c and d"]


def test_the_list_says_where_images_are_missing(tmp_path: Path) -> None:
    folder = tmp_path / "hallusionbench"
    folder.mkdir()
    (folder / "HallusionBench.json").write_text("[]")
    (found,) = [line for line in list_lines(tmp_path) if line.lstrip().startswith("found")]
    assert found.endswith("hallusion_bench.zip is missing")
    (folder / "hallusion_bench").mkdir()
    assert not any(line.endswith("is missing") for line in list_lines(tmp_path))


def test_marks_of_the_datas_own_stand_for_no_image() -> None:
    image = object()
    text, images = place_images("A <image> b <image 1> <image_2>", {1: image})  # type: ignore[dict-item]
    assert (text, images) == ("A  b <image> ", (image,))


# ---- the registry ----


def test_the_registry_is_the_papers_table() -> None:
    assert len(PAPER) == 16
    assert [one.paper for one in PAPER] == [
        76.0, 40.3, 55.4, 78.5, 70.6, 85.7, 61.3, 77.1, 59.6, 52.6, 56.5, 28.5, 59.7, 42.8, 52.8, 31.5,
    ]  # fmt: skip
    totals = {one.name: one.total for one in BENCHMARKS.values()}
    assert totals == {
        "mmmu": 900, "emma-mini": 400, "mmmu-pro": 5190, "mmk12": 2000, "mmstar": 1500, "mmbench": 0,
        "hallusionbench": 951, "mathvista": 1000, "mathverse": 788, "mathvision": 3040, "wemath": 1740,
        "visulogic": 1000, "logicvista": 447, "mme-reasoning": 1188, "phyx": 1000, "seephys": 2000,
        "mathvision-mini": 304,
    }  # fmt: skip
    assert all(one.licence and one.prompt for one in PAPER)
    assert math.isnan(BENCHMARKS["mathvision-mini"].paper)


def test_names_are_chosen_in_the_tables_order() -> None:
    assert [one.name for one in chosen("wemath, MMMU")] == ["mmmu", "wemath"]
    assert len(chosen("paper")) == 16
    assert len(chosen("all")) == 17
    with pytest.raises(ValueError, match=r"expected names from mmmu, .*; found 'mmmo'"):
        chosen("mmmo")


# ---- real data, where they are at hand ----


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real data here")
@pytest.mark.parametrize(
    ("name", "folder", "chance"),
    [("logicvista", "logicvista", 0.2527), ("wemath", "wemath", 0.0223), ("mathvision", "mathvision", 0.1008),
     ("mathvision-mini", "mathvision", 0.125), ("hallusionbench", "hallusionbench", 0.31)],
)  # fmt: skip
def test_real_annotations_are_counted_and_their_golds_can_be_matched(name: str, folder: str, chance: float) -> None:
    loaded = load(BENCHMARKS[name], SHARED / folder, images=False)
    assert loaded.is_whole
    assert [item.id for item in loaded.items if gold_problem(item)] == []
    assert BENCHMARKS[name].chance(loaded.items) == pytest.approx(chance, abs=0.002)


# ---- the hub, when asked ----


def test_absent_data_are_fetched_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def fetch(name: str, *, local_dir: Path, **options: object) -> None:
        asked.append({"name": name, **options})
        mmk12_hub(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    benchmark = small("mmk12")
    download(benchmark, tmp_path)
    download(benchmark, tmp_path)
    assert [(one["name"], one["repo_type"], one["revision"]) for one in asked] == [
        ("FanqingM/MMK12", "dataset", "main")
    ]
    assert asked[0]["allow_patterns"] == ["data/test*.parquet", "test*.parquet"]
    assert len(load(benchmark, tmp_path).items) == 2


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*words: object, **options: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(BenchError, match="FanqingM/MMK12 cannot be fetched: OSError: no route to host"):
        download(small("mmk12"), tmp_path)
    with pytest.raises(BenchError, match=r"mmbench is not on the hub .*; fetch VLMEvalKit's MMBench_DEV_EN_V11.tsv"):
        download(small("mmbench"), tmp_path)


def test_mmstars_repository_has_one_file_that_no_split_names(tmp_path: Path) -> None:
    mmstar_hub(tmp_path)
    (written,) = tmp_path.rglob("val*.parquet")
    written.rename(tmp_path / "mmstar.parquet")
    assert len(load(small("mmstar"), tmp_path).items) == 1


def test_the_list_says_what_is_unknown(tmp_path: Path) -> None:
    lines = list_lines(None)
    assert any(line.startswith("mmbench") and "items unknown" in line for line in lines)
    assert any(line.endswith("no commit pinned") for line in lines)
    assert any(re.search(r"MMMU/MMMU on the hub .*, commit [0-9a-f]{12}$", line) for line in lines)
    assert all(len(benchmark.peers) >= 5 for benchmark in PAPER)
    assert not BENCHMARKS["mathvision-mini"].peers  # the figures are of the whole test split


def test_a_check_counts_the_rotations_of_a_benchmark_of_unknown_size(tmp_path: Path) -> None:
    items = items_of("mmbench", mmbench_tsv, tmp_path)
    whole, less = (_rotations(BENCHMARKS["mmbench"], some) for some in (items, items[:-1]))
    assert whole == ["how many rows there should be is unknown; found 3 of 1 questions"]
    assert less == [
        "how many rows there should be is unknown; found 2 of 1 questions; not as many rows as options: 1, 7"
    ]
    assert _rotations(BENCHMARKS["mmstar"], items) == []


@pytest.mark.parametrize("module", [mathverse, mmstar])
def test_examples_in_docstrings(module: ModuleType) -> None:
    tried = doctest.testmod(module)
    assert (tried.failed, tried.attempted > 0) == (0, True)
