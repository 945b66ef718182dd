"""Sampling in the background against scripted vLLM servers: what goes on meanwhile, and what a fault costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from helpers.nano import load_nano, make_samples
from helpers.scripted_openai import hangs, sends
from helpers.scripted_vllm import Script, ScriptedVllm, ServedCluster, made_up
from seethink.core.errors import UserError
from seethink.core.types import Completion, Prompt
from seethink.generate import vllm as client
from seethink.generate.protocol import Sampling
from seethink.generate.vllm_request import completion_seed
from seethink.models.load import LoadedModel

SAMPLING, GROUP, SEED = Sampling(6), 3, (5, 2, 0)
Make = Callable[..., ServedCluster]


@pytest.fixture(scope="module")
def loaded(random_nano: Path) -> LoadedModel:
    return load_nano(random_nano)


@pytest.fixture(scope="module")
def prompts(loaded: LoadedModel) -> list[Prompt]:
    return [loaded.chat.prompt(sample) for sample in make_samples([1, 0, 2, 1])]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "LOOK_S", 0.02)


@pytest.fixture
def make(loaded: LoadedModel, prompts: list[Prompt]) -> Iterator[Make]:
    with ExitStack() as stack:

        def cluster(servers: int = 1, **settings: Any) -> ServedCluster:
            made = ServedCluster.start(stack, loaded, prompts, servers, **settings)
            made.generator.load_weights(3)
            return made

        yield cluster


def begin(cluster: ServedCluster, prompts: Sequence[Prompt]) -> None:
    cluster.generator.begin(prompts, GROUP, SAMPLING, SEED)


def finish(cluster: ServedCluster) -> list[list[Completion]]:
    while (groups := cluster.generator.rest()) is None:
        cluster.generator.push(cluster.generator.wants_whole())
    return groups


def expected(loaded: LoadedModel) -> list[list[tuple[list[int], list[float]]]]:
    banned, stop = set(loaded.banned_ids), loaded.stop_ids[0]
    return [[made_up(completion_seed(SEED, p) + g, banned, 6, stop) for g in range(GROUP)] for p in range(4)]


def sampled(groups: list[list[Completion]]) -> list[list[tuple[list[int], list[float]]]]:
    return [[(c.token_ids, c.generator_logprobs) for c in group] for group in groups]


def versions(groups: list[list[Completion]]) -> set[int]:
    return {c.policy_version for group in groups for c in group}


def held_back(server: ScriptedVllm, until: threading.Event, first: int = 1) -> Script:
    """Requests from number `first` on are answered once the event is set, with the version of their arrival."""

    def script(nth: int, body: dict[str, Any]) -> Any:
        reply = server.proper(body)
        if nth >= first:
            assert until.wait(20)
        return reply

    return script


def test_requests_are_answered_while_the_caller_does_something_else(make: Make, prompts: list[Prompt]) -> None:
    """The same completions as `generate` gives, texts included, of the weights that were served at the beginning."""
    cluster, go = make(), threading.Event()
    cluster.servers[0].script = held_back(cluster.servers[0], go)
    begin(cluster, prompts)
    go.set()  # it has returned, while no answer could be given
    assert cluster.generator.wait() > 0
    cluster.generator.load_weights(4)
    ahead = finish(cluster)
    asked = len(cluster.servers[0].bodies)
    assert sampled(ahead) == expected(cluster.loaded)
    assert versions(ahead) == {3}
    now = cluster.generator.generate(prompts, GROUP, SAMPLING, SEED)
    assert [[c.text for c in group] for group in ahead] == [[c.text for c in group] for group in now]
    assert versions(now) == {4}
    assert len(cluster.servers[0].bodies) == 2 * asked, "nothing was kept for another call"


def test_a_server_that_is_back_with_other_weights_waits_and_the_rest_have_its_work(
    make: Make, prompts: list[Prompt]
) -> None:
    """It cannot be given the weights of the beginning any more."""
    cluster, go = make(2), threading.Event()
    first, second = cluster.servers
    first.script = held_back(first, go)
    second.kill()
    second.start()
    begin(cluster, prompts)
    threading.Timer(0.3, go.set).start()
    cluster.generator.wait()
    assert not second.bodies
    ahead = finish(cluster)
    assert sampled(ahead) == expected(cluster.loaded)
    assert versions(ahead) == {3}
    cluster.generator.load_weights(4)
    assert second.version.endswith("-4")


def test_what_no_server_could_answer_is_sampled_from_the_current_weights(make: Make, prompts: list[Prompt]) -> None:
    """The only server dies in the middle, and comes back with the weights of its start."""
    cluster = make()
    server = cluster.servers[0]
    third = threading.Event()

    def script(nth: int, body: dict[str, Any]) -> Any:
        if nth < 3:
            return None
        third.set()
        return hangs()

    server.script = script
    begin(cluster, prompts)
    assert third.wait(20)
    server.kill()
    server.script = lambda nth, body: None
    server.start()
    cluster.generator.wait()
    cluster.generator.load_weights(4)
    ahead = finish(cluster)
    assert sampled(ahead) == expected(cluster.loaded)
    assert versions(ahead) == {3, 4}


def test_a_server_that_dies_after_the_wait_is_given_the_current_weights(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    server = cluster.servers[0]
    server.version = "default"  # as one that was started anew
    begin(cluster, prompts)
    cluster.generator.wait()
    assert not server.bodies
    cluster.generator.load_weights(4)
    server.version = "default"
    ahead = finish(cluster)
    assert sampled(ahead) == expected(cluster.loaded)
    assert versions(ahead) == {4}


def test_an_error_in_the_background_is_raised_where_it_is_waited_for(make: Make, prompts: list[Prompt]) -> None:
    cluster = make()
    cluster.servers[0].script = lambda nth, body: sends(400, '{"error": "the prompt is longer than max_model_len"}')
    begin(cluster, prompts)
    with pytest.raises(UserError, match=r"refused the prompt of 'made.*longer than max_model_len"):
        cluster.generator.wait()


def test_what_a_server_cannot_sample_is_refused_at_the_beginning(make: Make, prompts: list[Prompt]) -> None:
    with pytest.raises(UserError, match="set top_p=1"):
        make().generator.begin(prompts, GROUP, Sampling(6, top_p=0.9), SEED)


def test_closing_ends_what_is_in_the_background(make: Make, prompts: list[Prompt]) -> None:
    cluster = make(request_timeout_s=600.0)
    asked = threading.Event()

    def script(nth: int, body: dict[str, Any]) -> Any:
        asked.set()
        return hangs()

    cluster.servers[0].script = script
    begin(cluster, prompts)
    assert asked.wait(20)
    cluster.generator.close()
    assert cluster.generator._begun is not None
    assert cluster.generator._begun.seconds.cancelled()
