"""The tuning of small models on a CPU: one switch turns all of it off, and decoding stays the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers.nano import load_nano, make_samples
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models import small_cpu
from seethink.models.load import LoadedModel
from seethink.models.small_cpu.closed_form import use_closed_forms
from seethink.models.small_cpu.threads import LEAST_WORK, threads_for


@pytest.fixture
def nano(random_nano: Path) -> LoadedModel:
    return load_nano(random_nano)


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize(("enabled", "work", "threads"), [(True, 1, 1), (True, LEAST_WORK, 2), (False, 1, 2)])
def test_little_work_gets_one_thread(monkeypatch: pytest.MonkeyPatch, enabled: bool, work: int, threads: int) -> None:
    monkeypatch.setattr(small_cpu, "ENABLED", enabled)
    with threads_for(work):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_off_means_the_models_own_code(nano: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [nano.chat.prompt(s) for s in make_samples([1, 0])]
    tuned = make_generator(nano).generate(prompts, 3, Sampling(12), (4,))
    monkeypatch.setattr(small_cpu, "ENABLED", False)
    plain = make_generator(nano).generate(prompts, 3, Sampling(12), (4,))
    for ours, theirs in zip(tuned, plain, strict=True):
        assert [(c.token_ids, c.generator_logprobs) for c in ours] == [
            (c.token_ids, c.generator_logprobs) for c in theirs
        ]
    assert use_closed_forms(nano.model) == []
    monkeypatch.setattr(small_cpu, "ENABLED", True)
    assert use_closed_forms(nano.model)
