"""The perplexity of a trace against a plain forward of transformers' own model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from helpers.asking import problems
from helpers.nano import load_nano
from seethink.coldstart.perplexity import measure_perplexity
from seethink.coldstart.questions import prepare_questions
from seethink.coldstart.store import Store
from seethink.config import ReadConfig
from seethink.rewards.golds import read_gold


def test_perplexity_is_that_of_a_plain_forward(random_nano: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = prepare_questions(str(problems(tmp_path / "q", 2)), out, ReadConfig(), read_gold)
    traces = [(one.key, one, f"<think>red is {n}.</think>The answer is {n}.") for n, one in enumerate(found.kept)]
    with Store(out) as store:
        measure_perplexity(str(random_nano), out, traces, store.perplexity)
        measure_perplexity(str(random_nano), out, [(*traces[0][:2], "x " * 5000)], store.perplexity)
        lines = (out / "perplexity.jsonl").read_text().splitlines()
        assert len(lines) == 2, "the same key under the same student is not measured again"
        values = [store.perplexity.summaries[one.key].perplexity for one in found.kept]
    loaded = load_nano(random_nano)
    for (_, question, text), value in zip(traces, values, strict=True):
        prompt, ids = loaded.chat.prompt(question.asked(out)), loaded.chat.response_ids(text)
        given = torch.tensor([prompt.input_ids + ids])
        with torch.no_grad():
            logits = loaded.model(input_ids=given, **prompt.mm_kwargs).logits[0, len(prompt.input_ids) - 1 : -1].float()
        logits[:, list(loaded.banned_ids)] = float("-inf")
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(ids))
        assert value == pytest.approx(nll.exp().item(), rel=1e-3)


@pytest.mark.slow
def test_a_trace_that_does_not_fit_has_none(random_nano: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (one,) = prepare_questions(str(problems(tmp_path / "q", 1)), out, ReadConfig(), read_gold).kept
    with Store(out) as store:
        measure_perplexity(str(random_nano), out, [(one.key, one, "red blue " * 3000)], store.perplexity)
        assert json.loads((out / "perplexity.jsonl").read_text())["perplexity"] is None
        assert store.perplexity.summaries[one.key].perplexity is None
