"""Small benchmarks in the real column layouts: rows of our own, 8 x 8 images.

write_hub(root, "data/val", MMSTAR_ROWS)      # data/val-00000-of-00001.parquet
write_tsv(root, "MMStar", rows)               # MMStar.tsv, images as base64
"""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from seethink.eval.bench.benchmark import Benchmark
from seethink.eval.tasks.registry import BENCHMARKS

Row = dict[str, Any]


def png(tone: int) -> bytes:
    """An 8 x 8 image; another one for each tone."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (tone % 256, 40, 200 - tone % 200)).save(buffer, "PNG")
    return buffer.getvalue()


def stored(tone: int) -> Row:
    """An image as the hub's Parquet files have it."""
    return {"bytes": png(tone), "path": f"{tone}.png"}


def b64(tone: int) -> str:
    return base64.b64encode(png(tone)).decode()


def write_hub(root: Path, stem: str, rows: Sequence[Row]) -> None:
    path = root / f"{stem}-00000-of-00001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def write_tsv(root: Path, name: str, rows: Sequence[Row]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with (root / f"{name}.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)


def write_json(root: Path, name: str, rows: object, images: Mapping[str, int], archive: str = "") -> None:
    """The benchmark's own file; `.jsonl` has a line a row. Images go to files, or into a zip."""
    root.mkdir(parents=True, exist_ok=True)
    if name.endswith(".jsonl"):
        assert isinstance(rows, list)
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        (root / name).write_text(json.dumps(rows), encoding="utf-8")
    if archive:
        with zipfile.ZipFile(root / archive, "w") as file:
            for path, tone in images.items():
                file.writestr(path, png(tone))
        return
    for path, tone in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(png(tone))


def small(name: str, **changes: Any) -> Benchmark:
    """The benchmark, without the counts of its real data."""
    return replace(BENCHMARKS[name], **{"expect": {}, **changes})


# ---- one writer for each layout of each benchmark ----


def mmmu_hub(root: Path) -> None:
    empty = {f"image_{n}": None for n in range(2, 8)}
    rows = [
        {"id": "validation_Math_1", "question": "Which is like <image 1>?", "options": "['<image 2>', 'a circle']",
         "image_1": stored(1), **empty, "image_2": stored(2), "question_type": "multiple-choice", "answer": "B"},
        {"id": "validation_Math_2", "question": "How many? <image 1>", "options": "[]", "image_1": stored(3), **empty,
         "question_type": "open", "answer": "['24/7', '3.429']"},
        {"id": "validation_Math_3", "question": "Pick.", "options": "['one', 'two; three', \"it's\"]",
         "image_1": stored(4), **empty, "question_type": "multiple-choice", "answer": "C"},
    ]  # fmt: skip
    write_hub(root, "Math/validation", rows)
    dev = [{**rows[0], "id": "dev_Math_1"}]
    write_hub(root, "Math/dev", dev)


def mmmu_tsv(root: Path) -> None:
    rows = [
        {"index": 1, "id": "dev_Math_1", "question": "Q", "A": "x", "B": "y", "answer": "A", "image": b64(1)},
        {"index": 2, "id": "validation_Math_1", "question": "Which is like <image 1>?", "A": "<image 2>",
         "B": "a circle", "answer": "B", "image": str([b64(1), b64(2)])},
        {"index": 3, "id": "validation_Math_2", "question": "How many? <image 1>", "answer": "['24/7', '3.429']",
         "image": b64(3)},
        {"index": 4, "id": "validation_Math_3", "question": "Pick.", "A": "one", "B": "two; three", "C": "it's",
         "answer": "C", "image": b64(4)},
    ]  # fmt: skip
    write_tsv(root, "MMMU_DEV_VAL", rows)


def emma_hub(root: Path) -> None:
    none = {f"image_{n}": None for n in range(2, 6)}
    rows = [
        {"pid": "math_1", "question": "Which follows <image_1>?", "options": ["<image_2>", "none"], "answer": "a",
         "image_1": stored(1), **none, "image_2": stored(2), "subject": "Math", "context": None},
        {"pid": "math_2", "question": "How many cubes?", "options": [], "answer": "7", "image_1": stored(3), **none,
         "subject": "Math", "context": "Look at the cubes."},
    ]  # fmt: skip
    write_hub(root, "Math/test", rows)


def mmmu_pro_hub(root: Path) -> None:
    none = {f"image_{n}": None for n in range(2, 8)}
    base = {"id": "test_Art_1", "question": "What is <image 1>?", "image_1": stored(1), **none, "answer": "B",
            "subject": "Art"}  # fmt: skip
    write_hub(root, "standard (10 options)/test", [{**base, "options": "['a', 'b', 'c', 'd', 'e']"}])
    write_hub(root, "standard (4 options)/test", [{**base, "options": "['a', 'b', 'c', 'd']"}])
    vision = {"id": "test_Art_1", "image": stored(2), "options": "['a', 'b', 'c', 'd', 'e']", "answer": "B"}
    write_hub(root, "vision/test", [{**vision, "subject": "Art"}])


def mmk12_hub(root: Path) -> None:
    rows = [
        {"id": "1", "question": "如图，求角 A。\nA. 30°\nB. 40°\nC. 50°\nD. 60°", "answer": "B", "subject": "math",
         "image": stored(1)},
        {"id": "2", "question": "Which gas? A. O2 B. N2 C. He", "answer": "C", "subject": "chemistry",
         "image": stored(2)},
    ]  # fmt: skip
    write_hub(root, "data/test", rows)


def mmstar_hub(root: Path) -> None:
    rows = [
        {"index": 0, "question": "Which colour?\nOptions: A: red, dark, B: blue, C: green, D: none", "image": png(1),
         "answer": "A", "category": "math", "l2_category": "geometry"},
    ]  # fmt: skip
    write_hub(root, "val", rows)


def mmstar_tsv(root: Path) -> None:
    row = {"index": 0, "question": "Which colour?", "A": "red, dark", "B": "blue", "C": "green", "D": "none",
           "answer": "A", "category": "math", "l2_category": "geometry", "image": b64(1)}  # fmt: skip
    write_tsv(root, "MMStar", [row])


def mmbench_tsv(root: Path) -> None:
    texts = ["red", "blue", "green"]
    rows = []
    for turn in range(3):
        options = dict(zip("ABC", texts[turn:] + texts[:turn], strict=True))
        answer = next(letter for letter, text in options.items() if text == "blue")
        first = {"hint": "nan", "image": "7"} if turn else {"hint": "Look.", "image": b64(1)}
        about = {"index": 7 + turn * 1_000_000, "question": "Which?", "category": "colour", "answer": answer}
        rows.append({**about, **options, **first})
    write_tsv(root, "MMBench_DEV_EN_V11", rows)


def hallusion_hub(root: Path) -> None:
    def row(figure: int, question: int, answer: int) -> Row:
        return {"category": "VD", "subcategory": "ocr", "set_id": "0", "figure_id": str(figure),
                "question_id": str(question), "question": "Is it red?", "gt_answer": str(answer), "filename": "a.png",
                "image": stored(figure)}  # fmt: skip

    write_hub(root, "data/image", [row(0, 0, 1), row(1, 0, 0), row(0, 1, 0), row(1, 1, 1)])


def hallusion_tsv(root: Path) -> None:
    pairs = [(0, 0, "Yes"), (1, 0, "No"), (0, 1, "No"), (1, 1, "Yes")]
    rows = [
        {"index": f"image_VD_ocr_0_{f}_{q}", "question": "Is it red?", "answer": a, "image": b64(f)}
        for f, q, a in pairs
    ]
    write_tsv(root, "HallusionBench", rows)


def hallusion_json(root: Path) -> None:
    base = {"category": "VD", "subcategory": "ocr", "set_id": "0", "question": "Is it red?"}
    rows: list[Row] = [
        {**base, "figure_id": str(f), "question_id": str(q), "gt_answer": str(a), "filename": f"./hb/VD/{f}.png"}
        for f, q, a in [(0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 1, 1)]
    ]
    rows.append({**base, "figure_id": "0", "question_id": "9", "gt_answer": "1", "filename": None})
    write_json(root, "HallusionBench.json", rows, {"hb/VD/0.png": 0, "hb/VD/1.png": 1}, "hallusion_bench.zip")


def mathvista_hub(root: Path) -> None:
    base = {"unit": None, "precision": None, "answer_type": "text", "image": "images/1.jpg"}
    rows = [
        {**base, "pid": "1", "query": "Hint: choose.\nQuestion: Which?\nChoices:\n(A) red\n(B) blue",
         "choices": ["red", "blue"], "answer": "blue", "question_type": "multi_choice", "decoded_image": stored(1)},
        {**base, "pid": "2", "query": "Hint: a float.\nQuestion: How long? (Unit: cm)", "choices": None,
         "answer": "1.2", "question_type": "free_form", "answer_type": "float", "precision": 1.0, "unit": "cm",
         "decoded_image": stored(2)},
        {**base, "pid": "3", "query": "Hint: a list.\nQuestion: Which numbers?", "choices": None, "answer": "[1, 2, 3]",
         "question_type": "free_form", "answer_type": "list", "decoded_image": stored(3)},
    ]  # fmt: skip
    write_hub(root, "data/testmini", rows)


def mathvista_tsv(root: Path) -> None:
    base = {"unit": "", "precision": "", "answer_type": "text"}
    rows = [
        {**base, "index": 1, "question": "Hint: choose.\nQuestion: Which?\nChoices:\n(A) red\n(B) blue",
         "answer": "blue", "answer_option": "B", "question_type": "multi_choice", "image": b64(1)},
        {**base, "index": 2, "question": "Hint: a float.\nQuestion: How long? (Unit: cm)", "answer": "1.2",
         "question_type": "free_form", "answer_type": "float", "precision": "1.0", "unit": "cm", "image": b64(2)},
        {**base, "index": 3, "question": "Hint: a list.\nQuestion: Which numbers?", "answer": "[1, 2, 3]",
         "question_type": "free_form", "answer_type": "list", "image": b64(3)},
    ]  # fmt: skip
    write_tsv(root, "MathVista_MINI", rows)


def mathverse_hub(root: Path) -> None:
    base = {"question": "", "query_wo": "Please directly answer the question.",
            "query_cot": "Please first conduct reasoning, and then answer the question."}  # fmt: skip
    rows = [
        {**base, "sample_index": "1", "problem_index": "1", "problem_version": "Vision Only", "image": stored(1),
         "answer": "B", "question_type": "multi-choice", "question_for_eval": "How many?\nA: 1\nB: 2\nC: 3"},
        {**base, "sample_index": "2", "problem_index": "1", "problem_version": "Text Lite", "image": stored(1),
         "answer": "B", "question_type": "multi-choice", "question_for_eval": "How many?"},
        {**base, "sample_index": "3", "problem_index": "2", "problem_version": "Vision Only", "image": stored(2),
         "answer": "118\u63b3", "question_type": "free-form", "question_for_eval": "Which angle?"},
    ]  # fmt: skip
    write_hub(root, "testmini", rows)


def mathvision_json(root: Path) -> None:
    rows = [
        {"id": "1", "question": "Which shape?\n<image1>", "options": ["A", "B", "C"], "answer": "B", "level": 1,
         "subject": "counting", "image": "images/1.jpg"},
        {"id": "2521", "question": "How many?\n<image1>", "options": [], "answer": "11 ", "level": 2,
         "subject": "algebra", "image": "images/2.jpg"},
    ]  # fmt: skip
    write_json(root, "test.jsonl", rows, {"images/1.jpg": 1, "images/2.jpg": 2})


def mathvision_tsv(root: Path) -> None:
    rows = [
        {"index": 1, "question": "Which shape?\n<image1>", "choices": "['A', 'B', 'C']", "answer": "B",
         "category": "counting", "image": b64(1)},
        {"index": 2521, "question": "How many?\n<image1>", "choices": "[]", "answer": "11 ", "category": "algebra",
         "image": b64(2)},
    ]  # fmt: skip
    write_tsv(root, "MathVision", rows)


def wemath_rows(groups: int = 2, image: Callable[[int], Any] = lambda n: f"2steps/{n}.png") -> list[Row]:
    """Groups of two steps; the options of the second question are not all separated by a semicolon."""
    parts = ("1", "2", "multi")
    return [
        {"ID": f"2steps_{g}", "key": f"2steps_{part}", "question": f"What is {g}?", "answer": "ABC"[n],
         "option": "A. 1; x;B. 2;C. 3" if n else "A. 1 B. 2 ;C. 3", "image_path": image(g), "knowledge concept": "k"}
        for g in range(groups)
        for n, part in enumerate(parts)
    ]  # fmt: skip


def wemath_json(root: Path) -> None:
    write_json(root, "testmini.json", wemath_rows(), {f"2steps/{n}.png": n for n in range(2)})


def wemath_hub(root: Path) -> None:
    write_hub(root, "data/testmini", wemath_rows(image=stored))


def visulogic_json(root: Path) -> None:
    rows = [{"id": "00000", "image_path": "images/00000.png", "question": "Which?\nA: A\nB: B\nC: C\nD: D",
             "label": "C", "tag": "Quantitative Reasoning"}]  # fmt: skip
    write_json(root, "data.jsonl", rows, {"images/00000.png": 1}, "images.zip")


def logicvista_json(root: Path, items: int = 3) -> None:
    rows = {
        f"v1_{n}": {"imagename": f"v1_{n}.png", "question": "Which comes next (A-D)?", "skill": ["inductive"],
                    "answer": ["B", "A, C", "D"][n % 3]}
        for n in range(items)
    }  # fmt: skip
    rows["v1_382"] = {"imagename": "v1_382.png", "question": "", "answer": "", "skill": ["spatial"]}
    write_json(root, "dataset.json", rows, {f"images/v1_{n}.png": n for n in range(items)})


def mme_tsv(root: Path) -> None:
    empty = {"function_id": "", "special_info": "", "reasoning_type": "deductive", "capability": "calculation"}
    rows = [
        {**empty, "index": 1, "question": "Which?\nA. 1\nB. 2", "answer": "B", "question_type": "choice",
         "image": b64(1)},
        {**empty, "index": 2, "question": "Make 24.", "answer": "", "question_type": "rule", "image": b64(2),
         "function_id": "judge_24points_function", "special_info": "{'init_cards': [4, 6, 1, 1]}"},
        {**empty, "index": 3, "question": "Solve the sudoku.", "answer": "", "question_type": "rule",
         "image": str([b64(3), b64(4)]), "function_id": "calculate_answer_function_sudoku_4",
         "special_info": "{'base_matrix': [[1, None, None, None], [None] * 4, [None] * 4, [None] * 4]}".replace(
             "[None] * 4", "[None, None, None, None]")},
    ]  # fmt: skip
    write_tsv(root, "MMEReasoning", rows)


def phyx_hub(root: Path) -> None:
    row = {"id": 1, "question": "How fast?", "question_description": "A ball falls.",
           "options": 'A:"3 m/s",B:"4 m/s",C:"5 m/s, say \\"five\\"",D:"6 m/s"', "answer": "B", "image": stored(1),
           "category": "Mechanics", "subfield": "Kinematics"}  # fmt: skip
    write_hub(root, "data/test_mini", [row])


def seephys_hub(root: Path) -> None:
    rows = [
        {"index": 0, "question": "How far?", "images": [stored(1), stored(2)], "answer": "3.14 m", "level": 2,
         "subject": "CM", "language": "English", "sig_figs": "3"},
        {"index": 1, "question": "多远？", "images": [stored(3)], "answer": "2", "level": 1, "subject": "EM",
         "language": "Chinese", "sig_figs": None},
    ]  # fmt: skip
    write_hub(root, "train", rows)


LAYOUTS: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("mmmu", mmmu_hub), ("mmmu", mmmu_tsv), ("emma-mini", emma_hub), ("mmmu-pro", mmmu_pro_hub), ("mmk12", mmk12_hub),
    ("mmstar", mmstar_hub), ("mmstar", mmstar_tsv), ("mmbench", mmbench_tsv), ("hallusionbench", hallusion_hub),
    ("hallusionbench", hallusion_tsv), ("hallusionbench", hallusion_json), ("mathvista", mathvista_hub),
    ("mathvista", mathvista_tsv), ("mathverse", mathverse_hub), ("mathvision", mathvision_json),
    ("mathvision", mathvision_tsv), ("wemath", wemath_json), ("wemath", wemath_hub), ("visulogic", visulogic_json),
    ("logicvista", logicvista_json), ("mme-reasoning", mme_tsv), ("phyx", phyx_hub), ("seephys", seephys_hub),
)  # fmt: skip
