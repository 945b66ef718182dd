"""A real vLLM server samples for a trainer: prompts, log-probs, weights that change, caches, a tied head, kills, a run.

`make test-vllm` installs vLLM into an environment of its own and runs this; without that environment it is skipped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from helpers.conversing import Talker
from helpers.vllm_server import needs_vllm, running_server, vllm_recipe
from seethink.config import LoraConfig
from seethink.core.types import Completion, Prompt
from seethink.generate import weight_sync
from seethink.generate.conversations import ConversationGenerator
from seethink.generate.kept_weights import A, B
from seethink.generate.protocol import Sampling
from seethink.generate.token_guard import KEY
from seethink.generate.vllm import VllmGenerator
from seethink.generate.vllm_server import VllmServer
from seethink.models.load import LoadedModel, load_model
from seethink.models.lora import add_adapters
from seethink.models.scorer import TokenScorer
from seethink.models.weight_stream import checkpoint_weights, separate_weights
from seethink.rl.batching import Batcher, given_conversations
from seethink.train.policy import score
from seethink.train.start import train
from seethink.world.make import world_samples

pytestmark = needs_vllm
TOLERANCE = 2e-5
"""Nats, float32 on both sides."""
HOT = Sampling(24, temperature=0.7)
WILD = Sampling(24, temperature=2.0)
LONG = Sampling(150, temperature=2.0)
SEED = (11, 0, 0)


def named(url: str, **more: object) -> dict[str, object]:
    """What a recipe says of a server that runs."""
    return {"urls": [url], "api_key_env": KEY, **more}


class Served:
    """A server, and a trainer's model whose weights it is given."""

    def __init__(self, url: str, loaded: LoadedModel) -> None:
        self.url, self.loaded, self.version = url, loaded, 0
        self.start = {name: p.detach().clone() for name, p in loaded.model.named_parameters()}
        self.generator = self.connect()
        self.prompts = [loaded.chat.prompt(s) for s in world_samples("world:math", "test", 6, 0)]

    def connect(self, *, keeps: bool = False) -> VllmGenerator:
        def weights(is_whole: bool) -> Iterator[tuple[str, torch.Tensor]]:
            if not keeps:
                return checkpoint_weights(self.loaded.model, torch.float32)
            return separate_weights(self.loaded.model, torch.float32, (A, B), trained_alone=not is_whole)

        return VllmGenerator(
            self.loaded, [VllmServer(self.url, key_variable=KEY)], weights, max_rows=32, wait_s=600.0, keeps=keeps
        )

    @torch.no_grad()
    def change(self, *parts: str, by: float = 0.1) -> None:
        """From the start, other weights in these parts, and in no other."""
        torch.manual_seed(3)
        for name, parameter in self.loaded.model.named_parameters():
            parameter.copy_(self.start[name])
            if any(part in name for part in parts) and parameter.numel() > 1:
                parameter.add_(torch.randn_like(parameter) * by * parameter.std().clamp_min(0.02))

    def push(self) -> None:
        self.version += 1
        self.generator.load_weights(self.version)

    def sample(self, sampling: Sampling = HOT, group: int = 3) -> list[list[Completion]]:
        return self.generator.generate(self.prompts, group, sampling, SEED)

    @torch.no_grad()
    def gap(self, groups: Sequence[Sequence[Completion]], temperature: float = 0.7) -> float:
        """The largest |server's - trainer's log-prob|, in nats, through the forward that training uses."""
        loaded = self.loaded
        loaded.model.eval()
        pairs: list[tuple[Prompt, Completion]] = [
            (prompt, c) for prompt, group in zip(self.prompts, groups, strict=True) for c in group
        ]
        batcher = Batcher(100_000, 0, loaded.chat.pad_id, loaded.device)
        batches = batcher.batches(given_conversations(pairs))
        worst = 0.0
        for batch, outputs in zip(batches, score(TokenScorer(loaded, temperature=temperature), batches), strict=True):
            owners = batch.sequence_ids[batch.loss_mask]
            for place in owners.unique().tolist():
                ours = outputs.logprobs[owners == place]
                worst = max(worst, float((ours - torch.tensor(pairs[place][1].generator_logprobs)).abs().max()))
        return worst


def tokens(groups: Sequence[Sequence[Completion]]) -> list[list[list[int]]]:
    return [[c.token_ids for c in group] for group in groups]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server(vllm_recipe("nano")) as url:
        yield url


@pytest.fixture(scope="module")
def served(server: str) -> Iterator[Served]:
    made = Served(server, load_model("nano"))
    yield made
    made.generator.close()


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "served" in request.fixturenames:
        served: Served = request.getfixturevalue("served")
        served.change()
        served.push()


def test_the_log_probs_are_the_trainers_at_the_sampling_temperature(served: Served) -> None:
    """Prompts are compared id by id in every reply, or `generate` raises."""
    groups = served.sample()
    assert served.gap(groups) < TOLERANCE
    assert served.gap(groups, temperature=1.0) > 100 * TOLERANCE
    plain = served.sample(Sampling(24, temperature=1.0))
    assert served.gap(plain, temperature=1.0) < TOLERANCE
    greedy = served.sample(Sampling(24, temperature=0.0), group=2)
    assert all(first == second for first, second in tokens(greedy))
    assert served.gap(greedy, temperature=1.0) < TOLERANCE
    banned = set(served.loaded.banned_ids)
    assert not any(banned & set(ids) for group in tokens(groups) for ids in group)


def test_the_log_probs_of_later_turns_are_the_trainers(served: Served) -> None:
    """With a picture that stands in the first answer; prompts of every turn are compared id by id."""
    talk = ConversationGenerator(served.generator, served.loaded.chat, Talker, turn_tokens=8)
    groups = talk.generate(served.prompts, 2, Sampling(24, temperature=0.7), SEED)
    replies = [c.replies for group in groups for c in group]
    assert any(reply.images for one in replies for reply in one)
    assert max(map(len, replies)) == 2
    assert served.gap(groups) < TOLERANCE
    assert tokens(talk.generate(served.prompts, 2, Sampling(24, temperature=0.7), SEED)) == tokens(groups)


def test_image_ids_are_not_sampled_where_they_would_be(served: Served) -> None:
    """With a head that likes the image token best, at the largest temperature: never drawn, and in no log-prob."""
    with torch.no_grad():
        weight = served.loaded.model.get_output_embeddings().weight
        weight[list(served.loaded.banned_ids)] = 4 * weight.mean(0) + 2 * weight.std()
    served.push()
    groups = served.sample(Sampling(24, temperature=2.0))
    assert served.gap(groups, temperature=2.0) < TOLERANCE


def test_the_same_seeds_give_the_same_tokens(served: Served) -> None:
    groups = served.sample(WILD)
    assert tokens(served.sample(WILD)) == tokens(groups)
    alone = served.generator.generate([served.prompts[4]], 3, WILD, SEED, places=[4])
    assert tokens(alone) == tokens([groups[4]])
    assert any(len({tuple(ids) for ids in group}) == 3 for group in tokens(groups)), "each has a seed of its own"


@pytest.mark.parametrize("part", ["vision_tower", "projector", "language_model", "embed_tokens"])
def test_new_weights_reach_the_running_server(served: Served, part: str) -> None:
    """`embed_tokens` is the tied head as well, of which vLLM keeps a packed copy on a CPU."""
    old = served.sample()
    served.change(part)
    assert served.gap(old) > 100 * TOLERANCE
    served.push()
    assert served.gap(served.sample()) < TOLERANCE


def test_without_emptying_the_caches_images_would_be_those_of_the_old_weights(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the resets are for: the server has seen the images, and keeps their features by the images' hash."""
    served.sample()
    served.change("vision_tower", by=0.3)

    async def start(server: VllmServer, *, wakes: bool) -> None:
        await server.post("pause?mode=abort&clear_cache=false", timeout_s=60)
        await server.post("start_weight_update", timeout_s=60)

    monkeypatch.setattr(weight_sync, "_start", start)
    monkeypatch.setattr(weight_sync, "CACHES", ())
    served.push()
    assert served.gap(served.sample()) > 100 * TOLERANCE
    monkeypatch.setattr(weight_sync, "CACHES", ("reset_prefix_cache", "reset_mm_cache"))
    served.push()
    assert served.gap(served.sample()) > 100 * TOLERANCE, "the encoder's cache is another one"
    monkeypatch.undo()
    served.push()
    assert served.gap(served.sample()) < TOLERANCE


@torch.no_grad()
def draw_adapters(model: torch.nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_B" in name:
            parameter.copy_(torch.randn_like(parameter) * 0.05)


@pytest.mark.parametrize("part", ["language", "vision"])
def test_adapters_alone_change_the_weights_of_the_running_server(server: str, part: str) -> None:
    """Those of the vision encoder too: the server merges them, and its caches are emptied as ever."""
    loaded = load_model("nano")
    loaded.model.requires_grad_(False)
    add_adapters(loaded.model, LoraConfig(parts=(part,), rank=4), seed=0)
    served = Served(server, loaded)
    served.generator.close()
    served.generator = served.connect(keeps=True)
    served.push()
    assert served.gap(served.sample()) < TOLERANCE
    for seed in (1, 2):
        old = served.sample()
        draw_adapters(loaded.model, seed)
        assert served.gap(old) > 100 * TOLERANCE
        served.push()
        assert not served.generator._wanting()
        assert served.gap(served.sample()) < TOLERANCE
    served.generator.close()


def test_a_run_one_step_ahead_with_adapters(server: str, tmp_path: Path) -> None:
    ahead = {"engine": "vllm", "prompts_per_step": 4, "group_size": 6, "max_new_tokens": 24, "max_rows": 32, "ahead": 1}
    table = {"lora": {"parts": ["language"], "rank": 4}, "optim": {"lr": 1e-3}, "rollout": ahead | {"temperature": 1.5}}
    train(vllm_recipe("nano", tmp_path / "run", vllm=named(server, send="trained"), **table))
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step["rollout/staleness"] for step in steps] == [0, 1, 1]
    assert steps[0]["mismatch_kl/mean"] < TOLERANCE < steps[1]["mismatch_kl/mean"]


def test_a_run_whose_server_is_sent_to_sleep(server: str, tmp_path: Path) -> None:
    """On a CPU nothing is freed, but the engine knows that it sleeps: it must be awake where it is asked."""
    train(vllm_recipe("nano", tmp_path / "run", vllm=named(server, sleep=2)))
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(step["mismatch_kl/mean"] < TOLERANCE and step["time/sleep_s"] > 0 for step in steps)
    assert len(steps) == 3


def test_a_run_of_grpo(server: str, tmp_path: Path) -> None:
    guard = {"every": 3, "samples": 8, "action": "warn"}
    train(vllm_recipe("nano", tmp_path / "run", vllm=named(server), blindness=guard))
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3]
    assert all(step["mismatch_kl/mean"] < TOLERANCE for step in steps)
    assert sum(step["optim/grad_norm"] > 0 for step in steps) >= 2
    assert all(step["mismatch_kl/weight"] == pytest.approx(1.0, abs=1e-4) for step in steps)
    assert all(step["entropy/mean"] > 0 and step["time/sync_s"] > 0 for step in steps)
    looks = [json.loads(line) for line in (tmp_path / "run" / "blindness.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks] == [0, 3]
    assert all(look["blindness/path_mismatch"] < TOLERANCE for look in looks)


def test_a_run_with_a_tool(server: str, tmp_path: Path) -> None:
    """The model calls nothing: each turn is final, and the instructions stand in every prompt."""
    table = {"engine": "vllm", "prompts_per_step": 2, "group_size": 3, "max_new_tokens": 24, "max_rows": 32}
    tool = {"environment": "calculator", "turns": 2, "turn_tokens": 16}
    train(
        vllm_recipe(
            "nano",
            tmp_path / "run",
            vllm=named(server),
            rollout=table | tool,
            algorithm={"steps": 1},
        )
    )
    (step,) = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert step["mismatch_kl/mean"] < TOLERANCE
    assert step["tools/calls_mean"] >= 0


def processes_of(launcher: int) -> list[int]:
    """All descendants of a process."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for pid, parent in (map(int, line.split()) for line in listed.splitlines()):
        children.setdefault(parent, []).append(pid)
    found, waiting = [], [launcher]
    while waiting:
        new = children.get(waiting.pop(), [])
        found += new
        waiting += new
    return found


def vllm_processes() -> list[int]:
    """The server's API process, and all that it started."""

    def words(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            return ""

    heads = [pid for pid in processes_of(os.getpid()) if "vllm.entrypoints.openai.api_server" in words(pid)]
    return [*heads, *(pid for head in heads for pid in processes_of(head))]


def test_a_killed_server_is_replaced_with_the_same_tokens_after(served: Served, server: str) -> None:
    """SIGKILL of all its processes while it answers: it is started anew, given the weights, and asked again."""
    served.change("language_model")
    served.push()
    expected = served.sample(LONG, group=8)
    victims = vllm_processes()
    assert victims

    def kill() -> None:
        time.sleep(0.3)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    found = served.sample(LONG, group=8)
    thread.join()
    assert not set(vllm_processes()) & set(victims)
    assert vllm_processes(), "it was started anew before the answers were complete"
    again = served.sample(LONG, group=8)
    assert tokens(found) == tokens(again) == tokens(expected)
    assert served.gap(found, LONG.temperature) < TOLERANCE
