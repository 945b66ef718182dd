"""Results as other harnesses' files: whole in TSV, counted where Excel cuts, logs with a score a sample."""

from __future__ import annotations

import csv
import json
import re
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.bench_results import HOSTILE, LONG, results_in
from helpers.command_line import run_command
from seethink.eval.bench.results import read_results
from seethink.export.benchmarks.vlmevalkit import safe
from seethink.export.benchmarks.xlsx import write_xlsx
from seethink.report.benchmarks.page import render


def test_vlmevalkits_tables(tmp_path: Path) -> None:
    out = results_in(tmp_path, [LONG, HOSTILE, "A"])
    done = run_command("bench", "export", str(out), "--to", "vlmevalkit", "--out", str(tmp_path / "vk"))
    assert done.returncode == 0, done.stderr
    csv.field_size_limit(sys.maxsize)
    with (tmp_path / "vk" / "m-script--_LogicVista_run0.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["prediction"] for row in rows] == [LONG, HOSTILE, "A"]
    assert [row["hit"] for row in rows] == ["1", "0", "0"]
    assert "1 cells were cut at Excel's 32,767 characters" in done.stdout
    with (tmp_path / "vk" / "m-script--_LogicVista_run1.tsv").open(newline="") as file:
        assert next(csv.DictReader(file, delimiter="\t"))["prediction"] == "<think>thought</think>\n\\boxed{B}"
    again = run_command("bench", "export", str(out), "--to", "vlmevalkit", "--out", str(tmp_path / "vk"))
    assert (again.returncode, "is not empty" in again.stderr) == (2, True)


def test_excel_files_are_well_formed(tmp_path: Path) -> None:
    rows = [["a", "b"], ["x" * 40_000, "\x00 <&> \ud800 é"]]
    assert write_xlsx(tmp_path / "a.xlsx", rows) == 1
    with zipfile.ZipFile(tmp_path / "a.xlsx") as file:
        for name in file.namelist():
            ElementTree.fromstring(file.read(name))
        sheet = ElementTree.fromstring(file.read("xl/worksheets/sheet1.xml"))
    texts = [node.text for node in sheet.iter() if node.tag.endswith("}t")]
    assert texts == ["a", "b", "x" * 32_767, "\ufffd <&> \ufffd é"]
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(tmp_path / "a.xlsx")
    assert book.active["B2"].value == "\ufffd <&> \ufffd é"


def test_inspects_logs(tmp_path: Path) -> None:
    out = results_in(tmp_path, [LONG, HOSTILE, "D"])
    done = run_command("bench", "export", str(out), "--to", "inspect", "--out", str(tmp_path / "logs"))
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "logs").glob("*.json")
    log = json.loads(path.read_text())
    assert log["eval"]["config"]["epochs"] == 2
    assert [(s["id"], s["epoch"]) for s in log["samples"][:4]] == [("v1_0", 1), ("v1_1", 1), ("v1_2", 1), ("v1_0", 2)]
    values = [s["scores"]["seethink"]["value"] for s in log["samples"]]
    assert values == [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert log["results"]["scores"][0]["metrics"]["mean"]["value"] == pytest.approx(sum(values) / 6)
    read = pytest.importorskip("inspect_ai.log").read_eval_log(str(path))
    assert len(read.samples) == 6


def test_wrong_words(tmp_path: Path) -> None:
    out = results_in(tmp_path, ["B"])
    for words, said in (
        (("--to", "excel"), "expected vlmevalkit or inspect"),
        (("--to", "inspect", str(tmp_path)), "no results"),
    ):
        folder = out if len(words) == 2 else tmp_path
        done = run_command("bench", "export", str(folder), *words[:2], "--out", str(tmp_path / "x"))
        assert done.returncode == 2
        assert said in done.stderr
    assert safe("../..") == "-.."


def test_the_page_escapes_what_models_and_data_say(tmp_path: Path) -> None:
    results = read_results(results_in(tmp_path, [HOSTILE, "A", "A"]))
    page = render([results])
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script>") == 1
    assert "default-src &#39;none&#39;" in page
    assert "data:image/png;base64," in page
    assert 'data-category="inductive"' in page


def test_the_page_says_what_chance_is_and_what_others_reach(tmp_path: Path) -> None:
    page = render([read_results(results_in(tmp_path, ["no idea"] * 60))])
    assert re.search(r"<li>LogicVista, .*: \d+\.\d ± \d+\.\d (is below|cannot be told from) chance", page)
    assert "64.4" in page
    assert "GPT-4o" in page
    shown = [int(n) for n in re.findall(r"<b>v1_(\d+)</b>", page)]
    assert len(shown) == 48
    assert max(shown) > 57  # the last category too
    assert "48 of the 60 items that were answered wrongly" in page
