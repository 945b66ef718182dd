"""Families that are not listed: parts told from the model's structure, proven on a picture, or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.families import FAMILY_PARAMS, STATEFUL_PARAMS, save_family
from seethink.models import coverage
from seethink.models.load import ModelError, attach_family, load_model
from seethink.models.parts import FAMILIES, PARTS, PartsError, banned_token_ids, family_of, split_parts
from seethink.models.structure import find_family
from seethink.models.trial import prove

PAGE = Path(__file__).parents[2] / "docs" / "model_types.md"


@pytest.fixture(scope="module", params=[*FAMILY_PARAMS, *STATEFUL_PARAMS])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family(request.param, tmp_path_factory.mktemp("family"))


@pytest.fixture
def _table_kept() -> Iterator[None]:
    """The family table as it was, its order too."""
    kept = dict(FAMILIES)
    yield
    FAMILIES.clear()
    FAMILIES.update(kept)


@pytest.mark.usefixtures("_table_kept")
def test_a_listed_family_is_found_as_it_is_listed(folder: Path) -> None:
    """Taken out of the table it loads by itself, with the same parts, positions and kind of forward."""
    model_type = load_model(str(folder)).model.config.model_type
    listed = FAMILIES.pop(model_type)
    loaded = load_model(str(folder))
    found = family_of(loaded.model)
    assert [set(found.paths(part)) for part in PARTS] == [set(listed.paths(part)) for part in PARTS]
    assert (found.positions, found.token_types, found.body) == (listed.positions, listed.token_types, listed.body)
    assert len(found.evidence) == 3
    assert not found.packs
    config = loaded.model.config
    image_id = getattr(config, "image_token_id", None) or config.image_token_index
    assert image_id in banned_token_ids(loaded.model, loaded.chat.tokenizer)


def test_the_width_of_an_encoder_as_wide_as_the_language_does_not_matter() -> None:
    """GLM-OCR's encoder has its language model's width: the names of the classes tell."""
    assert find_family(coverage.default_model("glm_ocr")).connector == ("model.visual.merger",)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("florence2", "encoder-decoder"),
        ("fuyu", "no vision encoder"),
        ("git", "names no image token"),
        pytest.param("mllama", "cross-attention", marks=pytest.mark.slow),
        pytest.param("janus", r"model\.vqmodel \(JanusVQVAE\) is neither", marks=pytest.mark.slow),
        pytest.param("diffusion_gemma", "refines a canvas", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_told_is_refused(model_type: str, reason: str) -> None:
    verdict, why = coverage.verdict(model_type)
    assert verdict == "refused"
    assert re.search(reason, why)


def test_the_refusal_says_what_to_do(tmp_path: Path) -> None:
    from transformers import GitConfig

    GitConfig().save_pretrained(tmp_path)
    from seethink.models.describe import describe

    with pytest.raises(PartsError, match=r"no parts table for model type 'git'.*no image token.*\[parts\.modules\]"):
        describe(str(tmp_path))


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(str(save_family("gemma3", tmp_path_factory.mktemp("gemma"))))


def test_parts_that_do_not_feed_each_other_are_refused(gemma: Any) -> None:
    family = FAMILIES["gemma3"]
    gemma.model.seethink_family = replace(family, vision=family.connector, connector=family.vision)
    with pytest.raises(PartsError, match=r"what enters its connector .* does not come from its vision"):
        prove(gemma.model, gemma.chat)


def test_a_forward_that_is_not_transformers_own_is_refused(gemma: Any) -> None:
    """Without token types Gemma 3's image tokens would be masked as text is."""
    gemma.model.seethink_family = replace(FAMILIES["gemma3"], token_types=None)
    with pytest.raises(PartsError, match="its own forward gives other logits"):
        prove(gemma.model, gemma.chat)
    gemma.model.seethink_family = FAMILIES["gemma3"]
    prove(gemma.model, gemma.chat)


def test_a_forward_that_fails_is_refused(gemma: Any) -> None:
    gemma.model.seethink_family = replace(FAMILIES["gemma3"], body="language_model")
    with pytest.raises(PartsError, match="a trial on one picture fails: AttributeError"):
        prove(gemma.model, gemma.chat)


def test_the_proof_leaves_no_gradient_and_no_hook(gemma: Any) -> None:
    gemma.model.seethink_family = FAMILIES["gemma3"]
    prove(gemma.model, gemma.chat)
    assert all(p.grad is None for named in split_parts(gemma.model).values() for p in named.values())
    assert not any(module._forward_pre_hooks for module in gemma.model.modules())
    assert torch.is_grad_enabled()


def test_the_page_has_every_model_type() -> None:
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    told = {row[0].strip("| `"): row[2] for row in rows}
    assert list(told) == list(coverage.model_classes())
    assert {name for name, verdict in told.items() if verdict == "listed"} == set(FAMILIES)


@pytest.mark.slow
def test_the_page_is_what_the_command_prints() -> None:
    """Every class of transformers is built anew: half a minute."""
    assert coverage.as_markdown(list(coverage.coverage())) == PAGE.read_text(encoding="utf-8")


def test_attention_with_sinks_is_refused(tmp_path: Path) -> None:
    """InternVL 3.5 has a size with GPT-OSS as its language model: the decoder would leave the sinks out."""
    model = load_model(str(save_family("internvl", tmp_path))).model
    model.model.language_model.layers[1].self_attn.sinks = torch.nn.Parameter(torch.zeros(4))
    with pytest.raises(ModelError, match=r"layers\.1\.self_attn\.sinks; GPT-OSS"):
        attach_family(model, None)
