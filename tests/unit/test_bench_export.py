"""Results as other harnesses' files: whole in TSV, counted where Excel cuts, logs with a score a sample."""

from __future__ import annotations

import csv
import json
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.benchmarks import logicvista_json, small
from helpers.command_line import run_command
from seethink.eval.bench.generations import Generation, Settings
from seethink.eval.bench.grades import BenchGrader
from seethink.eval.bench.lines import KeyedLines
from seethink.eval.bench.load import load
from seethink.eval.bench.results import item_records, read_results, score_record, write_results
from seethink.eval.bench.runner import BenchRun, generations_path
from seethink.eval.bench.statistics import bench_score
from seethink.export.benchmarks.vlmevalkit import safe
from seethink.export.benchmarks.xlsx import write_xlsx
from seethink.report.benchmarks.page import render

HOSTILE = '</pre><script>alert(1)</script>\x1b[31m"quoted"\ttab\nline'
LONG = "<think>" + "x" * 40_000 + "</think> \\boxed{B}"


def results_in(folder: Path, texts: list[str]) -> Path:
    """A finished folder whose first run has these texts, and whose second says B."""
    logicvista_json(folder / "data", len(texts))
    benchmark = small("logicvista")
    loaded = load(benchmark, folder / "data")
    out = folder / "out"
    for run in range(2):
        store = KeyedLines(generations_path(out, "logicvista", run))
        said = texts if run == 0 else ["\\boxed{B}"] * len(texts)
        store.append(
            Generation(f"{run}{n}", f"v1_{n}", run, text, "thought" * run, "stop", 7).record()
            for n, text in enumerate(said)
        )
        store.close()
    ran = BenchRun(benchmark, loaded, Settings(runs=2), out, BenchGrader()).regrade()
    score = bench_score(benchmark, loaded.items, ran.graded, whole=True)
    about = {"label": 'm<script>"', "settings": {"temperature": 1.0, "runs": 2, "max_new_tokens": 9, "seed": 0}}
    write_results(out, about, {"logicvista": score_record(score, ran)}, item_records(ran, out))
    return out


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
