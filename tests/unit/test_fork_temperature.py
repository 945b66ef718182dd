"""A temperature of its own at forks: the rule, the temperature elsewhere that adds as much entropy, and its values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from helpers.nano import load_nano, make_samples
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt, RolloutGroup
from seethink.data.prompts import PromptList
from seethink.generate.in_process.rules import ChangeTemperature
from seethink.generate.make import make_generator
from seethink.generate.protocol import ForkTemperature, Sampling
from seethink.models.load import LoadedModel
from seethink.studies.lab import causal
from seethink.studies.lab.causal import calibrate, fork_mask, matching_temperature
from seethink.studies.lab.reading import read_term
from seethink.studies.lab.schema import LabError, Term

NONE = torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, dtype=torch.long)


def prompts_of(loaded: LoadedModel, count: int) -> list[Prompt]:
    prompts = PromptList(make_samples([1] * count), loaded.chat)
    return [prompts[i] for i in range(count)]


def test_logits_are_divided_at_forks_and_elsewhere_by_temperatures_of_their_own() -> None:
    """Ids 0 and 2 have 0.3 in the first row, and 0.02 in the second."""
    logits = torch.tensor([[0.2, 0.7, 0.1], [0.01, 0.98, 0.01]]).log()
    ruled = ChangeTemperature(ForkTemperature((0, 2), 0.25, forks=2.0, elsewhere=0.5))(logits, *NONE)
    assert torch.allclose(ruled, torch.stack([logits[0] / 2, logits[1] * 2]))
    forks_alone = ChangeTemperature(ForkTemperature((0, 2), 0.25, forks=2.0))(logits, *NONE)
    assert torch.equal(forks_alone[1], logits[1])


def test_what_was_forbidden_stays_so() -> None:
    logits = torch.tensor([[0.0, -math.inf, 1.0], [-math.inf, 0.0, 1.0]])
    ruled = ChangeTemperature(ForkTemperature((0,), 0.2, 2.0, 3.0))(logits, *NONE)
    assert torch.equal(ruled.isinf(), logits.isinf())


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_nothing_can_be_drawn_with_is_refused(temperature: float) -> None:
    with pytest.raises(UserError, match="must be above 0"):
        ForkTemperature((0,), 0.1, elsewhere=temperature)


def test_the_matching_temperature_is_found_by_halving() -> None:
    assert matching_temperature(0.25, lambda temperature: temperature - 1) == pytest.approx(1.25, abs=1e-3)
    with pytest.raises(LabError, match=r"5 nats are to be added outside of forks, where temperature 2.0 adds 1"):
        matching_temperature(5, lambda temperature: temperature - 1)


def test_as_much_entropy_is_added_elsewhere_as_at_forks(random_nano: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model without training, whose forks are the places where some ids are likelier than mostly."""
    loaded = load_nano(random_nano)
    prompts = prompts_of(loaded, 3)
    watched = tuple(range(40))
    groups = make_generator(loaded).generate(prompts, 2, Sampling(12, watched_ids=watched), (0,))
    masses = sorted(mass for group in groups for c in group for mass in c.watched_mass)
    monkeypatch.setattr(causal, "SHARE", masses[-8])
    answered = [RolloutGroup(prompt, group) for prompt, group in zip(prompts, groups, strict=True)]
    own = [c for group in groups for c in group]
    assert fork_mask(own).sum() == 8
    about = calibrate(loaded, answered)
    assert 1 < about["elsewhere"] < about["forks"], "there are more places elsewhere"
    assert about["added"] > 0
    monkeypatch.setattr(causal, "SHARE", 2.0)
    assert calibrate(loaded, answered) == {"forks": causal.HOTTER, "elsewhere": 1.0, "added": 0.0}


def test_a_rule_of_both_temperatures_alike_is_a_temperature(random_nano: Path) -> None:
    loaded = load_nano(random_nano)
    prompts, rule = prompts_of(loaded, 2), ForkTemperature((1,), 0.5, 1.5, 1.5)
    ruled, plain = (
        make_generator(loaded).generate(prompts, 2, sampling, (0,))
        for sampling in (Sampling(8, rules=(rule,)), Sampling(8, temperature=1.5))
    )

    def ids(groups: list[list[Completion]]) -> list[list[int]]:
        return [c.token_ids for group in groups for c in group]

    assert ids(ruled) == ids(plain)


def test_accuracies_by_variant_are_paired_by_item(tmp_path: Path) -> None:
    rows = [
        {"id": "m", "domain": "math", "difficulty": "easy", "plain": 0.5, "forks": 1.0, "elsewhere": None},
        {"id": "d", "domain": "dice", "difficulty": "easy", "plain": 0.0, "forks": 0.5, "elsewhere": 0.0},
    ]
    (tmp_path / "causal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "causal.json").write_text(json.dumps({"places": 7}))
    read = {k: read_term(Term(arm="a", heated=k), {"a": tmp_path}) for k in ("plain", "forks", "elsewhere", "places")}  # type: ignore[arg-type]
    assert [read[k].value for k in ("plain", "forks", "elsewhere", "places")] == [0.25, 0.75, 0, 7]
    assert read["forks"].less(read["plain"]).items == {"m": 0.5, "d": 0.5}
