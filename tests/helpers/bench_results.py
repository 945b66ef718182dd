"""A finished folder of `seethink eval --bench`, without a model."""

from __future__ import annotations

from pathlib import Path

from helpers.benchmarks import logicvista_json, small
from seethink.eval.bench.generations import Generation, Settings
from seethink.eval.bench.grades import BenchGrader
from seethink.eval.bench.load import load
from seethink.eval.bench.results import item_records, score_record, write_results
from seethink.eval.bench.runner import BenchRun, generations_path
from seethink.eval.bench.statistics import bench_score
from seethink.runs.keyed_lines import KeyedLines

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
