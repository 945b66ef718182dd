"""What a vLLM server is asked: some completions of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seethink.core.errors import UserError
from seethink.core.png import png_bytes
from seethink.core.types import Completion, Prompt
from seethink.endpoint.chat import data_url
from seethink.generate.protocol import Forbid, Sampling
from seethink.generate.vllm_reply import Expected
from seethink.models.load import LoadedModel

BANNED = -100.0
"""Added to the logits of image ids, which nothing may sample: e^-100 of a probability is 0 in float32."""


@dataclass(slots=True)
class Request:
    """Some completions of one prompt."""

    prompt: Prompt
    ids: list[int]
    """The prompt's, with one placeholder an image."""
    place: int
    """Of the prompt in the call."""
    seed: int
    """Of the first completion."""
    count: int
    is_first: bool
    """Whether it has its prompt's first completion."""
    sampling: Sampling
    failures: int = 0
    answer: list[Completion] | None = None


def make_requests(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    group_size: int,
    sampling: Sampling,
    seed: tuple[int, ...],
    numbers: Sequence[int],
    most: int,
) -> list[Request]:
    """`group_size` completions of every prompt, at most `most` in one request; `numbers` are the prompts' in the seeds.

    Raises UserError where a prompt is none to the tokenizer, or `sampling` is more than servers can do.
    """
    refuse_what_servers_lack(sampling)
    if shown := next((prompt.sample.id for prompt in prompts if prompt.sample.videos), None):
        raise UserError(f"sample {shown!r} has a video, which is not sent to vLLM servers; sample in process")
    # vLLM takes one greedy completion per request.
    most = most if sampling.temperature else 1
    requests = []
    for place, (number, prompt) in enumerate(zip(numbers, prompts, strict=True)):
        ids, first_seed = loaded.chat.unexpanded_ids(prompt), completion_seed(seed, number)
        requests += [
            # vLLM adds a completion's number in its request.
            Request(prompt, ids, place, first_seed + first, min(most, group_size - first), first == 0, sampling)
            for first in range(0, group_size, most)
        ]
    return requests


def written(loaded: LoadedModel, request: Request, version: str, vocabulary: int) -> tuple[dict[str, Any], Expected]:
    """(body of the request, what its answer must be, from the weights of `version`).

    Made when it is sent, since pictures are large, in whatever thread sends it: no tokenizer is used here.
    """
    prompt, sampling = request.prompt, request.sampling
    stops, banned = loaded.stop_ids, {*loaded.banned_ids, *forbidden_ids(sampling)}
    parameters = {
        "n": request.count, "seed": request.seed,
        "temperature": sampling.temperature, "top_p": 1.0, "top_k": 0, "max_tokens": sampling.max_new_tokens,
        "stop_token_ids": list(stops), "logit_bias": {str(i): BANNED for i in sorted(banned)}, "logprobs": 0,
        "detokenize": False,
    }  # fmt: skip
    body = {
        "token_ids": request.ids,
        "content_parts": [
            {"type": "image_url", "url": data_url(png_bytes(image, effort=1))} for image in prompt.pictures()
        ],
        "sampling_params": parameters,
        "return_token_ids": True,
    }
    expected = Expected(
        prompt.sample.id, tuple(prompt.input_ids), request.count, sampling.max_new_tokens, stops, frozenset(banned),
        vocabulary, version,
    )  # fmt: skip
    return body, expected


def gathered(loaded: LoadedModel, requests: Sequence[Request], prompts: int) -> list[list[Completion]]:
    """The completions of answered requests, [prompts][group], with their texts."""
    groups: list[list[Completion]] = [[] for _ in range(prompts)]
    for request in requests:
        assert request.answer is not None
        for completion in request.answer:
            ids = completion.token_ids
            completion.text = loaded.chat.decode(ids if completion.truncated else ids[:-1])
        groups[request.place] += request.answer
    return groups


def completion_seed(seed: tuple[int, ...], number: int) -> int:
    """The seed of a prompt's first completion; those of the next are this plus 1, 2, ...: a function of run, step,
    prompt and sample alone."""
    return int(np.random.SeedSequence([*seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(2))


def forbidden_ids(sampling: Sampling) -> list[int]:
    return [ids[0] for rule in sampling.rules if isinstance(rule, Forbid) for ids in rule.sequences]


def refuse_what_servers_lack(sampling: Sampling) -> None:
    """Raises UserError."""
    if sampling.top_p < 1:
        raise UserError(
            f"top_p={sampling.top_p} in a vLLM server gives log-probs of the kept tokens alone; set top_p=1, or sample "
            "in process"
        )
    if not all(isinstance(rule, Forbid) and all(len(ids) == 1 for ids in rule.sequences) for rule in sampling.rules):
        raise UserError("a vLLM server forbids single tokens alone; sample with other rules in process")
