"""The client of vLLM servers against scripted ones: what is asked, what is checked, and what a fault costs."""

from __future__ import annotations

import base64
import io
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from helpers.conversing import Talker
from helpers.nano import load_nano, make_samples
from helpers.scripted_openai import Reply, after, hangs, sends, sends_half
from helpers.scripted_vllm import Expands, Script, ScriptedVllm, ServedCluster, made_up
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt
from seethink.generate import vllm as client
from seethink.generate import weight_sync
from seethink.generate.conversations import ConversationGenerator
from seethink.generate.protocol import Forbid, Sampling, ThinkingBudget
from seethink.generate.vllm_request import completion_seed
from seethink.generate.vllm_server import VllmServer
from seethink.generate.weight_sync import buckets
from seethink.models.load import LoadedModel
from seethink.models.weight_stream import checkpoint_weights

SAMPLING = Sampling(6)
GROUP = 3
SEED = (5, 2, 0)


@pytest.fixture(scope="module")
def loaded(random_nano: Path) -> LoadedModel:
    return load_nano(random_nano)


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[Prompt]:
    return [loaded.chat.prompt(sample) for sample in make_samples([1, 0, 2, 1])]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LOOK_S", 0.02)


class Cluster(ServedCluster):
    def generate(self, prompts: Sequence[Prompt], sampling: Sampling = SAMPLING, **more: Any) -> list[list[Completion]]:
        return self.generator.generate(prompts, GROUP, sampling, SEED, **more)


Make = Callable[..., Cluster]


@pytest.fixture
def make(loaded: LoadedModel, prompts: list[Prompt]) -> Iterator[Make]:
    with ExitStack() as stack:

        def cluster(*scripts: Script | None, **settings: Any) -> Cluster:
            servers = [ScriptedVllm(loaded, *([script] if script else [])) for script in scripts or (None,)]
            made = Cluster(loaded, prompts, [stack.enter_context(server) for server in servers], **settings)
            stack.callback(made.generator.close)
            made.generator.load_weights(3)
            return made

        yield cluster


def expected(loaded: LoadedModel, places: Sequence[int]) -> list[list[tuple[list[int], list[float]]]]:
    """What the scripted servers sample: a function of seed, prompt and sample alone."""
    banned, stop = set(loaded.banned_ids), loaded.stop_ids[0]
    return [
        [made_up(completion_seed(SEED, place) + g, banned, SAMPLING.max_new_tokens, stop) for g in range(GROUP)]
        for place in places
    ]


def sampled(groups: list[list[Completion]]) -> list[list[tuple[list[int], list[float]]]]:
    return [[(c.token_ids, c.generator_logprobs) for c in group] for group in groups]


# ---- what is asked and answered ----


def test_a_request_is_a_prompt_once_with_its_pictures(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    groups = cluster.generate(prompts)
    assert sampled(groups) == expected(cluster.loaded, range(4))
    bodies = sorted(cluster.servers[0].bodies, key=lambda b: b["sampling_params"]["seed"])
    assert len(bodies) == len(prompts)
    by_prompt = {tuple(b["token_ids"]): b for b in bodies}
    for prompt in prompts:
        body = by_prompt[tuple(cluster.loaded.chat.unexpanded_ids(prompt))]
        assert body["sampling_params"]["n"] == GROUP
        pictures = prompt.sample.pictures()
        assert len(body["content_parts"]) == len(pictures)
        for part, picture in zip(body["content_parts"], pictures, strict=True):
            sent = Image.open(io.BytesIO(base64.b64decode(part["url"].removeprefix("data:image/png;base64,"))))
            assert (sent.mode, sent.tobytes()) == ("RGB", picture.tobytes())
    parameters = bodies[0]["sampling_params"]
    assert (parameters["temperature"], parameters["top_p"], parameters["max_tokens"]) == (1.0, 1.0, 6)
    assert parameters["stop_token_ids"] == list(cluster.loaded.stop_ids)
    assert {int(i) for i in parameters["logit_bias"]} == set(cluster.loaded.banned_ids)


def test_completions_are_read_as_the_decoder_writes_them(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    stop = cluster.loaded.stop_ids
    completions = [c for group in cluster.generate(prompts) for c in group]
    assert {c.truncated for c in completions} == {True, False}
    for c in completions:
        ended = c.token_ids[-1] in stop
        assert (c.truncated, c.policy_version, c.entropies) == (not ended, 3, [])
        assert c.text == cluster.loaded.chat.decode(c.token_ids[:-1] if ended else c.token_ids)
        assert len(c.generator_logprobs) == len(c.token_ids)


def test_a_completion_is_a_function_of_its_place_alone(make: Make, prompts: list[Prompt]) -> None:
    cluster = make(None, None)
    some = cluster.generate([prompts[3], prompts[1]], places=[3, 1])
    assert sampled(some) == expected(cluster.loaded, [3, 1])
    assert {completion_seed(SEED, place) for place in range(99)}.isdisjoint({completion_seed((5, 3, 0), 0)})
    assert all(0 <= completion_seed(SEED, place) < 2**62 for place in range(99))


def test_a_group_larger_than_a_server_goes_in_parts(make: Make, prompts: list[Prompt]) -> None:
    cluster = make(max_rows=2)
    done: list[int] = []
    assert sampled(cluster.generate(prompts, progress=done.append)) == expected(cluster.loaded, range(4))
    assert [b["sampling_params"]["n"] for b in cluster.servers[0].bodies].count(2) == 4
    assert len(cluster.servers[0].bodies) == 8
    assert sum(done) == 4


def test_greedy_completions_are_asked_one_by_one(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    groups = cluster.generate(prompts, Sampling(6, temperature=0.0))
    assert [len(group) for group in groups] == [GROUP] * 4
    assert [b["sampling_params"]["n"] for b in cluster.servers[0].bodies] == [1] * 4 * GROUP


def test_requests_are_dealt_among_servers(make: Make, prompts: list[Prompt]) -> None:
    """Each answers once both have been asked."""
    cluster = make(None, None, max_rows=GROUP)
    both = threading.Barrier(2)

    def together(server: ScriptedVllm) -> Script:
        def script(nth: int, body: dict[str, Any]) -> Reply:
            if nth == 1:
                both.wait(20)
            return server.proper(body)

        return script

    for server in cluster.servers:
        server.script = together(server)
    assert sampled(cluster.generate(prompts)) == expected(cluster.loaded, range(4))
    assert sum(len(server.bodies) for server in cluster.servers) == 4


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (Sampling(6, top_p=0.9), "set top_p=1"),
        (Sampling(6, rules=(Forbid(((1, 2),)),)), "single tokens alone"),
        (Sampling(6, rules=(ThinkingBudget(2, "</think>", (1,)),)), "single tokens alone"),
    ],
)
def test_what_a_server_cannot_sample_is_refused(
    make: Make, prompts: list[Prompt], sampling: Sampling, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        make().generate(prompts, sampling)


def test_single_tokens_are_forbidden_with_the_image_ids(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    cluster.generate(prompts, Sampling(6, rules=(Forbid(((7,), (9,))),)))
    assert {int(i) for i in cluster.servers[0].bodies[0]["sampling_params"]["logit_bias"]} == {
        7,
        9,
        *cluster.loaded.banned_ids,
    }


# ---- weights ----

UPDATE = ["/pause", "/start_weight_update", "/init_weight_transfer_engine", "/update_weights", "/finish_weight_update"]
CACHES = ["/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache"]


def test_weights_arrive_to_the_bit_and_caches_are_emptied(make: Make, prompts: list[Prompt]) -> None:
    cluster = make(None, None)
    weights = dict(checkpoint_weights(cluster.loaded.model, torch.float32))
    for server in cluster.servers:
        assert sorted(server.calls[:3]) == sorted(UPDATE[:3])
        assert server.calls[3:] == [*UPDATE[3:], *CACHES, "/resume"]
        assert list(server.weights) == list(weights)
        assert all(torch.equal(server.weights[name], tensor) for name, tensor in weights.items())
    assert re.fullmatch(r"[0-9a-f]{8}-3", cluster.servers[0].version)
    calls = [len(server.calls) for server in cluster.servers]
    cluster.generator.load_weights(3)
    assert [len(server.calls) for server in cluster.servers] == calls, "it serves them already"
    cluster.generator.load_weights(4)
    assert cluster.servers[0].calls[calls[0] :] == [*UPDATE[:2], *UPDATE[3:], *CACHES, "/resume"]
    assert {c.policy_version for group in cluster.generate(prompts) for c in group} == {4}


def test_buckets_hold_one_dtype_and_no_more_than_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_sync, "BUCKET_BYTES", 40)
    tensors = [torch.ones(4), torch.ones(6), torch.ones(1), torch.ones(1, dtype=torch.float64), torch.ones(30)]
    named = [(f"t{i}", tensor) for i, tensor in enumerate(tensors)]
    found = list(buckets(iter(named)))
    assert [names for names, _ in found] == [["t0", "t1"], ["t2"], ["t3"], ["t4"]]


@pytest.mark.parametrize("path", ["/start_weight_update", "/init_weight_transfer_engine", "/update_weights"])
def test_a_server_that_takes_no_weights_is_left_out(
    make: Make, prompts: list[Prompt], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = make(None, None)
    cluster.servers[0].kill()
    cluster.servers[0].start()
    cluster.servers[0].faulty = path
    assert sampled(cluster.generate(prompts)) == expected(cluster.loaded, range(4))
    for version in range(4, 8):
        cluster.generator.load_weights(version)
    assert {c.policy_version for group in cluster.generate(prompts) for c in group} == {7}
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"HTTP 500.*it is left out from now on", said)


def test_a_server_without_the_routes_of_weights_is_refused_at_once(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    with ScriptedVllm(loaded) as server:
        server.lacks = "/weight_info"
        cluster = Cluster(loaded, prompts, [server])
        with pytest.raises(UserError, match=r"weight_info: HTTP 404.*VLLM_SERVER_DEV_MODE=1"):
            cluster.generator.load_weights(0)
        cluster.generator.close()


@pytest.mark.parametrize("world", [0, "many", None])
def test_a_number_of_workers_that_is_none_is_refused(loaded: LoadedModel, prompts: list[Prompt], world: object) -> None:
    with ScriptedVllm(loaded) as server:
        server.world = world
        cluster = Cluster(loaded, prompts, [server])
        with pytest.raises(UserError, match=r"takes the trainer's weights.*get_world_size says"):
            cluster.generate(prompts)
        cluster.generator.close()


def test_where_no_server_takes_weights_the_run_ends_with_the_cause(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    cluster.servers[0].faulty = "/finish_weight_update"
    cluster.generator.load_weights(4)
    with pytest.raises(UserError, match=r"no vLLM server takes the trainer's weights.*finish_weight_update: HTTP 500"):
        cluster.generate(prompts)


# ---- faults ----


def once(reply: Reply) -> Script:
    """The first request is answered so, the others properly."""
    return lambda nth, body: reply if nth == 1 else None


FAULTS: dict[str, Reply] = {
    "error": sends(500, '{"error": "EngineDeadError"}'),
    "full": sends(503, "", {"Retry-After": "0.05"}),
    "too many": sends(429, "", {"Retry-After": "0.05"}),
    "cut off": sends_half(),
    "not JSON": sends(200, "<html>"),
    "nothing": sends(200, "{}"),
    "deep": sends(200, "[" * 100_000),
    "endless": sends(200, "1" * (1 << 20)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_costs_a_second_request(make: Make, prompts: list[Prompt], name: str) -> None:
    cluster = make(once(FAULTS[name]))
    assert sampled(cluster.generate(prompts)) == expected(cluster.loaded, range(4))
    assert len(cluster.servers[0].bodies) >= 5


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"token_ids": [5, 6]}, "those of other tokens"),
        ({"finish_reason": "abort", "token_ids": [], "logprobs": {"content": []}}, "ended with 'abort'"),
        ({"index": 0}, "completions, where 3 were asked for"),
        ({"weight_versions": None}, "without a version"),
        ({"weight_versions": [{"version": "other"}]}, "sampled from weights other"),
        ({"token_ids": [10**9], "logprobs": {"content": [{"token_id": 10**9, "logprob": -1}]}}, "outside the vocab"),
        ({"token_ids": [5], "logprobs": {"content": [{"token_id": 5, "logprob": 0.7}]}}, "above 0"),
        ({"logprobs": {"content": [{"token_id": 5, "logprob": "x"}]}}, "logprob"),
    ],
)
def test_a_wrong_answer_is_asked_again_and_named_in_the_end(
    make: Make, prompts: list[Prompt], changed: dict[str, Any], said: str
) -> None:
    cluster = make()
    server = cluster.servers[0]
    server.script = lambda nth, body: server.proper(body, **changed)
    with pytest.raises(UserError, match=rf"6 times without an answer; at last: .*{said}"):
        cluster.generate(prompts[:1])
    server.script = lambda nth, body: server.proper(body, **changed) if nth == 7 else None
    assert sampled(cluster.generate(prompts[:1])) == expected(cluster.loaded, [0])


def test_an_image_id_among_the_tokens_is_refused(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    server, banned = cluster.servers[0], cluster.loaded.banned_ids[0]
    wrong = {"token_ids": [banned], "logprobs": {"content": [{"token_id": banned, "logprob": -1.0}]}}
    server.script = lambda nth, body: server.proper(body, **wrong)
    with pytest.raises(UserError, match="was forbidden"):
        cluster.generate(prompts[:1])


def test_a_prompt_that_is_read_otherwise_stops_the_run(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    server = cluster.servers[0]
    short = tuple(cluster.loaded.chat.unexpanded_ids(prompts[0]))
    server.expanded[short] = prompts[0].input_ids[:-1]
    with pytest.raises(UserError, match=rf"'{prompts[0].sample.id}' as {len(prompts[0].input_ids) - 1} tokens"):
        cluster.generate(prompts)


def test_a_refused_prompt_stops_the_run(make: Make, prompts: list[Prompt]) -> None:
    cluster = make(once(sends(400, '{"error": "the prompt is longer than max_model_len"}')))
    with pytest.raises(UserError, match=r"refused the prompt of 'made.*longer than max_model_len"):
        cluster.generate(prompts)


def hangs_and_the_other_waits(cluster: Cluster) -> threading.Event:
    """The first server never answers; the second does once the first has been asked. Set when that is so."""
    first, second = cluster.servers
    asked = threading.Event()

    def never(nth: int, body: dict[str, Any]) -> Reply:
        asked.set()
        return hangs()

    def later(nth: int, body: dict[str, Any]) -> Reply:
        asked.wait(20)
        return second.proper(body)

    first.script, second.script = never, later
    return asked


def test_a_hanging_server_loses_its_requests_to_the_other(make: Make, prompts: list[Prompt]) -> None:
    cluster = make(None, None, request_timeout_s=2.0)
    hangs_and_the_other_waits(cluster)
    assert sampled(cluster.generate(prompts)) == expected(cluster.loaded, range(4))
    assert len(cluster.servers[1].bodies) >= 4


def test_a_killed_server_loses_its_requests_to_the_other(make: Make, prompts: list[Prompt]) -> None:
    cluster = make(None, None)
    asked = hangs_and_the_other_waits(cluster)
    killer = threading.Thread(target=lambda: (asked.wait(20), cluster.servers[0].kill()))
    killer.start()
    assert sampled(cluster.generate(prompts)) == expected(cluster.loaded, range(4))
    killer.join()
    assert cluster.servers[0].bodies
    assert not cluster.servers[0].is_up


def test_a_restarted_server_is_given_the_weights_again(make: Make, prompts: list[Prompt]) -> None:
    """The only server dies in the middle and is back later, with the weights of its start."""
    cluster = make()
    server = cluster.servers[0]
    server.script = lambda nth, body: None if nth < 3 else hangs()

    def replace() -> None:
        server.kill()
        time.sleep(0.1)
        server.script = lambda nth, body: None
        server.start()

    def when_asked() -> None:
        while len(server.bodies) < 3:
            time.sleep(0.01)
        replace()

    thread = threading.Thread(target=when_asked)
    thread.start()
    assert sampled(cluster.generate(prompts)) == expected(cluster.loaded, range(4))
    thread.join()
    assert server.version.endswith("-3")
    assert server.weights
    asked = [b["sampling_params"]["seed"] for b in server.bodies]
    assert len(asked) <= 2 * len(prompts), "what had been answered was kept"


def test_a_server_that_is_back_takes_nothing_from_the_others(make: Make, prompts: list[Prompt]) -> None:
    """What they are answering is awaited before the weights are pushed."""
    cluster = make(None, None)
    first, second = cluster.servers
    second.kill()
    second.start()
    first.script = lambda nth, body: after(0.2, first.proper(body))
    assert sampled(cluster.generate(prompts)) == expected(cluster.loaded, range(4))
    seeds = [body["sampling_params"]["seed"] for server in cluster.servers for body in server.bodies]
    assert len(seeds) == len(set(seeds)) == len(prompts)
    assert second.version.endswith("-3")


def test_a_server_that_is_late_is_waited_for(loaded: LoadedModel, prompts: list[Prompt]) -> None:
    server = ScriptedVllm(loaded)
    server.start()
    server.kill()
    cluster = Cluster(loaded, prompts, [server])
    cluster.generator.load_weights(0)
    timer = threading.Timer(0.2, server.start)
    timer.start()
    assert sampled(cluster.generate(prompts)) == expected(loaded, range(4))
    timer.join()
    cluster.generator.close()
    server.kill()


def test_where_none_comes_back_the_run_ends_with_the_cause(make: Make, prompts: list[Prompt]) -> None:
    cluster = make(wait_s=0.3)
    cluster.servers[0].kill()
    with pytest.raises(UserError, match=r"no vLLM server has been ready for 0 s: .*Refused"):
        cluster.generate(prompts)


def test_a_key_is_sent_and_not_shown(
    loaded: LoadedModel, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="NO_SUCH_KEY, which is not set"):
        VllmServer("http://127.0.0.1:1", key_variable="NO_SUCH_KEY")
    monkeypatch.setenv("SOME_KEY", "hush-hush")
    with ScriptedVllm(loaded, lambda nth, body: sends(400, "no such key: hush-hush")) as server:
        cluster = Cluster(loaded, prompts, [server])
        cluster.generator._servers = [VllmServer(server.url, key_variable="SOME_KEY")]
        cluster.generator.load_weights(0)
        with pytest.raises(UserError, match=r"no such key: \[redacted\]") as error:
            cluster.generate(prompts)
        assert "hush" not in str(error.value)
        cluster.generator.close()


def test_a_later_turn_sends_all_that_was_said_and_every_picture(make: Make, prompts: list[Prompt]) -> None:
    """What a server makes of it is compared with the conversation's own ids, or `generate` raises."""
    cluster = make()
    cluster.servers[0].expanded = Expands(cluster.loaded)  # type: ignore[assignment]
    talk = ConversationGenerator(cluster.generator, cluster.loaded.chat, Talker, turn_tokens=5)
    groups = talk.generate(prompts, 2, Sampling(20), SEED)
    said = [reply for group in groups for c in group for reply in c.replies]
    assert {len(reply.images) for reply in said} == {0, 1}
    pictures = [len(body["content_parts"]) for body in cluster.servers[0].bodies]
    assert sorted(pictures[:4]) == sorted(len(prompt.sample.images) for prompt in prompts)
    assert max(pictures[4:]) == 3
    again = talk.generate(prompts, 2, Sampling(20), SEED)
    assert [[c.token_ids for c in group] for group in again] == [[c.token_ids for c in group] for group in groups]
