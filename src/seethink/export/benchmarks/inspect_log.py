"""Results as inspect_ai's JSON logs (format version 2), one file a benchmark, for its viewer and its `score` command.

Runs are epochs. A sample's score has the grade here as value, the answer that was found, and the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seethink.core.files import write_json
from seethink.core.version import __version__
from seethink.eval.bench.prompts import MARK
from seethink.eval.bench.results import Results
from seethink.eval.bench.statistics import BenchScore
from seethink.export.benchmarks.answers import Answer, answers
from seethink.export.benchmarks.vlmevalkit import safe

_EPOCH = "1970-01-01T00:00:00+00:00"
"""Answers are stored without a time, so that a resumed run has the same bytes; the format demands one."""
_SCORER = "seethink"
_STOP = {"stop": "stop", "length": "max_tokens", "refused": "content_filter", "not_asked": "unknown"}


def export_inspect(results: Results, out: Path) -> list[Path]:
    """Write `MODEL_BENCHMARK.json` for each benchmark into the folder `out`; returns the files."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, score in results.scores.items():
        path = out / f"{safe(results.label)}_{safe(name)}.json"
        write_json(path, _log(results, name, score))
        written.append(path)
    return written


def _log(results: Results, name: str, score: BenchScore) -> dict[str, Any]:
    settings = results.about.get("settings", {})
    samples = list(_samples(results, name, score))
    config = {"temperature": settings.get("temperature"), "max_tokens": settings.get("max_new_tokens"),
              "seed": settings.get("seed")}  # fmt: skip
    return {
        "version": 2,
        "status": "success" if len(samples) == score.n * score.runs else "error",
        "eval": {
            "eval_id": name, "run_id": name, "created": _EPOCH, "task": name, "task_id": name,
            "task_version": 1, "task_attribs": {}, "task_args": {},
            "dataset": {"name": name, "samples": score.n, "shuffled": False},
            "model": f"seethink/{results.label}", "model_generate_config": config, "model_base_url": None,
            "model_args": {}, "config": {"epochs": score.runs}, "packages": {"seethink": __version__},
        },
        "plan": {"name": "plan", "steps": [], "config": config},
        "results": {
            "total_samples": score.n * score.runs, "completed_samples": len(samples),
            "scores": [{
                "name": _SCORER, "scorer": _SCORER, "params": {},
                "metrics": {
                    "mean": {"name": "mean", "value": score.score, "params": {}},
                    "stderr": {"name": "stderr", "value": score.stderr, "params": {}},
                },
            }],
        },
        "stats": {"started_at": _EPOCH, "completed_at": _EPOCH, "model_usage": {}},
        "samples": samples,
    }  # fmt: skip


def _samples(results: Results, name: str, score: BenchScore) -> Iterator[dict[str, Any]]:
    for run in range(score.runs):
        for one in answers(results, name, run):
            yield _sample(one, run, results.label)


def _sample(one: Answer, run: int, label: str) -> dict[str, Any]:
    question = str(one.line["question"]).replace(MARK, "[image] ")
    reply = {"role": "assistant", "content": one.text, "source": "generate"}
    value = None if one.verdict in (None, "error") else float(one.verdict == "correct")
    score: dict[str, Any] = {"value": value, "answer": one.extracted, "explanation": one.verdict, "metadata": {}}
    return {
        "id": str(one.line["id"]),
        "epoch": run + 1,
        "input": question,
        "target": str(one.line["gold"]),
        "messages": [{"role": "user", "content": question}, reply],
        "output": {
            "model": label,
            "choices": [{"message": reply, "stop_reason": _STOP.get(one.finish, "unknown")}],
            "usage": {"input_tokens": 0, "output_tokens": one.tokens, "total_tokens": one.tokens},
        },
        "scores": {_SCORER: score} if value is not None else {},
        "metadata": {"category": one.line["category"]},
        "store": {},
        "events": [],
        "attachments": {},
    }
