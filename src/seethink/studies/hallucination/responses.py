"""Where the responses come from: sampled now, or stored by a run; a verifier may check the statements in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seethink.config import EvalConfig, ReadConfig, RewardConfig
from seethink.config.verifier import VerifierConfig
from seethink.core.errors import UserError
from seethink.eval.hallucination import (
    CheckedResponse,
    Finding,
    check_completions,
    compare_denials,
    stored_responses,
)
from seethink.studies.hallucination.denial_verifier import confirm


def measure_hallucination(
    where: str,
    data: str | None,
    *,
    size: int = 100,
    samples: int = 4,
    max_new_tokens: int = 160,
    seed: int = 0,
    reading: ReadConfig | None = None,
    reward: RewardConfig | None = None,
    verifier: VerifierConfig | None = None,
) -> tuple[list[Finding], dict[str, Any]]:
    """(findings, what they were measured on).

    With `data`, the model `where` is asked `size` items per domain, `samples` times each. Without, `where` is a run
    folder whose stored rollouts are read. Raises UserError where there is nothing to measure.
    """
    about: dict[str, Any] = {"model": where, "data": data, "seed": seed}
    if data is None:
        responses = stored_responses(Path(where))
    else:
        config = EvalConfig(data=data, size=size, samples=samples, max_new_tokens=max_new_tokens)
        responses = _sampled(where, config, seed, reading, reward)
        about |= {"size": size, "samples": samples, "max_new_tokens": max_new_tokens}
    if verifier is not None:
        responses, counts = verified(responses, verifier)
        about |= {"verifier": verifier.model, **counts}
    return compare_denials(responses), about


def _sampled(
    model: str, config: EvalConfig, seed: int, reading: ReadConfig | None, reward: RewardConfig | None
) -> list[CheckedResponse]:
    # Imported here, because stored rollouts need no torch.
    from seethink.data.prompts import PromptList
    from seethink.data.token_pieces import TokenPieces
    from seethink.eval.runner import draw_graded
    from seethink.eval.tasks.source import load_source_task
    from seethink.generate.make import make_generator
    from seethink.generate.protocol import Sampling
    from seethink.models.load import load_model
    from seethink.rewards.rewarder import command_rewarder

    with command_rewarder(reward) as rewarder:
        loaded = load_model(model)
        loaded.chat.limit_images(reading or ReadConfig())
        task = load_source_task(config, seed, chat=loaded.chat, reading=reading)
        generator, prompts = make_generator(loaded), PromptList(task.samples, loaded.chat)
        sampling, per_item = Sampling(config.max_new_tokens, 1.0), max(1, config.samples)
        groups = draw_graded(task, generator, prompts, rewarder, per_item, sampling, seed, label="hallucination")
    return check_completions(task.samples, groups, TokenPieces(loaded.chat.tokenizer))


def verified(
    responses: Sequence[CheckedResponse], verifier: VerifierConfig
) -> tuple[list[CheckedResponse], dict[str, int]]:
    """The responses without the statements that the verifier refutes, and how many statements it judged in which way.

    A statement without a verdict stands. Raises UserError where the verifier's key is not set.
    """
    statements = [(one.text, span) for one in responses for span in one.spans]
    try:
        verdicts = iter(confirm(verifier, statements))
    except ValueError as error:
        raise UserError(str(error)) from None
    counts = {"confirmed": 0, "refuted": 0, "unjudged": 0}
    names = {True: "confirmed", False: "refuted", None: "unjudged"}
    kept = []
    for one in responses:
        spans = []
        for span in one.spans:
            verdict = next(verdicts)
            counts[names[verdict]] += 1
            spans += [span] if verdict is not False else []
        kept.append(replace(one, spans=spans))
    return kept, counts
