"""Two ranks with one server: rank 0 asks it for both and gives it the weights; a restart costs neither of them a token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from helpers.nano import load_nano, make_samples
from helpers.ranks import on_ranks
from helpers.scripted_openai import sends
from helpers.scripted_vllm import ScriptedVllm, made_up
from seethink.dist.generator import MainGenerator
from seethink.dist.world import rank
from seethink.generate.protocol import Sampling
from seethink.models.weight_stream import checkpoint_weights


def _sample(model: Path, url: str, folder: Path) -> None:
    from seethink.generate.vllm import VllmGenerator
    from seethink.generate.vllm_server import VllmServer

    loaded = load_nano(model)
    iterated = []

    def weights(is_whole: bool) -> Iterator[tuple[str, Tensor]]:
        iterated.append(rank())
        yield from checkpoint_weights(loaded.model, torch.float32)

    generator = MainGenerator(lambda: VllmGenerator(loaded, [VllmServer(url)], weights), weights)
    generator.load_weights(1)
    prompts = [loaded.chat.prompt(sample) for sample in make_samples([1, 0, 1])]
    groups = generator.generate(prompts, 2, Sampling(5), (4, 0))
    generator.close()
    found = {
        "ids": [[c.token_ids for c in group] for group in groups],
        "versions": [c.policy_version for group in groups for c in group],
        "pushed": len(iterated),
    }
    (folder / f"rank{rank()}.json").write_text(json.dumps(found))


def test_every_rank_has_all_completions_and_takes_part_in_every_update(random_nano: Path, tmp_path: Path) -> None:
    from seethink.generate.vllm_request import completion_seed

    loaded = load_nano(random_nano)
    server = ScriptedVllm(loaded)

    def script(nth: int, body: object) -> object:
        if nth != 2:
            return None
        server.version = "default"  # as one that was started anew
        return sends(500, "")

    server.script = script  # type: ignore[assignment]
    for prompt in map(loaded.chat.prompt, make_samples([1, 0, 1])):
        server.expanded[tuple(loaded.chat.unexpanded_ids(prompt))] = prompt.input_ids
    with server:
        on_ranks(2, _sample, tmp_path, random_nano, server.url, tmp_path)
    banned, stop = set(loaded.banned_ids), loaded.stop_ids[0]
    expected = [[made_up(completion_seed((4, 0), p) + g, banned, 5, stop)[0] for g in range(2)] for p in range(3)]
    for number in range(2):
        found = json.loads((tmp_path / f"rank{number}.json").read_text())
        assert found == {"ids": expected, "versions": [1] * 6, "pushed": 2}
