"""vLLM loads what seethink exports and gives the tokens and log-probs that seethink's decoder gives, with images.

`make test-vllm` installs vLLM into an environment of its own and runs this; without that environment it is skipped.
tests/numerics/test_families.py ties seethink's decoder to transformers' `generate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from helpers.families import FAMILIES
from helpers.serving import PYTHON, Case, ServingError, make_cases, serve
from seethink.models.load import load_model

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no vLLM environment; `make test-vllm` makes it"),
]
TOLERANCE = 2e-5
"""Of log-probs, float32 on both sides."""
NAMES = (*FAMILIES, "nano", "trained", "lora")
NO_CLASS = pytest.mark.xfail(
    strict=True,
    raises=ServingError,
    reason="vLLM has no class for it under transformers' names, and its fallback asks for what transformers' lacks",
)
NOT_SERVED = dict.fromkeys(("instructblip", "ovis2", "deepseek_vl", "kimi_k25"), NO_CLASS)
CAUSAL_GEMMA = pytest.mark.xfail(
    strict=True, reason="vLLM's attention on a CPU never looks ahead; Gemma 3's image tokens see each other both ways"
)
Answers = dict[str, dict[str, Any]]


def _names(**marks: pytest.MarkDecorator) -> list[Any]:
    return [pytest.param(name, marks=[marks[name]] if name in marks else []) for name in NAMES]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield make_cases(tmp_path_factory.mktemp("cases"))
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def served(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return serve([case.job for case in cases.values()], tmp_path_factory.mktemp("vllm"))


def _answers(served: Answers, name: str) -> list[dict[str, Any]]:
    if "error" in served[name]:
        raise ServingError(served[name]["error"])
    return served[name]["answers"]


@pytest.mark.parametrize("name", _names(**NOT_SERVED))
def test_vllm_decodes_the_same_tokens(cases: dict[str, Case], served: Answers, name: str) -> None:
    case, answers = cases[name], _answers(served, name)
    assert [a["prompt_ids"] for a in answers] == [p.input_ids for p in case.prompts]
    assert [a["token_ids"] for a in answers] == [c.token_ids for c in case.completions]


@pytest.mark.parametrize("name", _names(**NOT_SERVED, gemma3=CAUSAL_GEMMA))
def test_with_the_same_logprobs(cases: dict[str, Case], served: Answers, name: str) -> None:
    case, answers = cases[name], _answers(served, name)
    for ours, theirs in zip(case.completions, answers, strict=True):
        assert theirs["logprobs"] == pytest.approx(ours.generator_logprobs, abs=TOLERANCE)


@torch.no_grad()
def test_gemma3_differs_by_the_mask_alone(cases: dict[str, Case], served: Answers) -> None:
    """transformers agrees with vLLM once it, too, takes image tokens for text."""
    case = cases["gemma3"]
    loaded = load_model(str(case.folder))
    for prompt, theirs in zip(case.prompts, _answers(served, "gemma3"), strict=True):
        ids = torch.tensor([prompt.input_ids + theirs["token_ids"]])
        logits = loaded.model(input_ids=ids, token_type_ids=torch.zeros_like(ids), **prompt.mm_kwargs).logits[0]
        logits[:, list(loaded.banned_ids)] = float("-inf")
        logprobs = logits.log_softmax(-1)[len(prompt.input_ids) - 1 : -1]
        chosen = logprobs[torch.arange(len(logprobs)), theirs["token_ids"]].tolist()
        assert theirs["logprobs"] == pytest.approx(chosen, abs=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_the_pictures_matter(cases: dict[str, Case], name: str) -> None:
    """Else equal answers would not show that vLLM looks at them: the first two prompts differ in the picture alone."""
    first, second = cases[name].completions[:2]
    assert cases[name].prompts[0].input_ids == cases[name].prompts[1].input_ids
    gaps = [abs(a - b) for a, b in zip(first.generator_logprobs, second.generator_logprobs, strict=False)]
    assert first.token_ids != second.token_ids or max(gaps) > 50 * TOLERANCE


@pytest.mark.parametrize(("name", "start"), [("trained", "llava"), ("lora", "qwen2_5_vl")])
def test_training_changed_the_answers(cases: dict[str, Case], name: str, start: str) -> None:
    """Else the checkpoint of a run would be the start's export once more."""
    for before, after in zip(cases[start].completions, cases[name].completions, strict=True):
        assert abs(before.generator_logprobs[0] - after.generator_logprobs[0]) > 50 * TOLERANCE
