"""Conversations on two ranks are those of one process: each turn is dealt anew, and every rank has all of them."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.conversing import Talker
from helpers.nano import load_nano, make_samples, save_nano
from helpers.ranks import on_ranks
from seethink.dist.generator import DealtGenerator
from seethink.dist.world import rank
from seethink.generate.conversations import ConversationGenerator
from seethink.generate.in_process import step
from seethink.generate.in_process.generator import InProcessGenerator
from seethink.generate.protocol import Sampling


def talk(model: Path, out: Path) -> None:
    """Write what was sampled, by this rank's number."""
    loaded = load_nano(model)
    vocabulary = loaded.model.config.text_config.vocab_size
    own = InProcessGenerator(replace(loaded, stop_ids=tuple(range(0, vocabulary, 3))))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(step, "_capture")
        own._step = step.Step(own._loaded, own._attend)
    talks = ConversationGenerator(DealtGenerator(own, nullcontext), loaded.chat, Talker, turn_tokens=6)
    prompts = [loaded.chat.prompt(sample) for sample in make_samples((1, 0, 2))]
    groups = talks.generate(prompts, 2, Sampling(16), (1, 2))
    said = [[(c.token_ids, [reply.token_ids for reply in c.replies]) for c in group] for group in groups]
    out.with_suffix(f".{rank()}").write_text(json.dumps(said))


@pytest.mark.slow
def test_two_ranks_talk_as_one(tmp_path: Path) -> None:
    model = save_nano(tmp_path / "nano")
    talk(model, tmp_path / "one")
    on_ranks(2, talk, tmp_path, model, tmp_path / "two")
    one, *two = ((tmp_path / name).read_text() for name in ("one.0", "two.0", "two.1"))
    assert two == [one, one]
    assert sum(len(replies) for group in json.loads(one) for _, replies in group) >= 6
