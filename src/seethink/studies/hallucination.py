"""`seethink hallucination`: on responses sampled now, or on those that a run has stored; with a verifier if asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seethink.config import EvalConfig, ReadConfig, RewardConfig
from seethink.config.verifier import VerifierConfig
from seethink.core.errors import UserError
from seethink.eval.hallucination import Finding, Spoken, find, spoken, stored
from seethink.studies.denial_verifier import confirm


def measure(
    where: str,
    data: str | None,
    *,
    size: int = 100,
    samples: int = 4,
    max_new_tokens: int = 160,
    seed: int = 0,
    reading: ReadConfig | None = None,
    verifier: VerifierConfig | None = None,
) -> tuple[list[Finding], dict[str, Any]]:
    """(findings, what they were measured on). Without `data`, `where` is a run folder whose stored rollouts are read.

    `size` is items per domain of a world source, or rows per domain of a file.
    """
    about: dict[str, Any] = {"model": where, "data": data, "seed": seed}
    if data is None:
        responses = stored(Path(where))
    else:
        config = EvalConfig(data=data, size=size, samples=samples, max_new_tokens=max_new_tokens)
        responses = _sampled(where, config, seed, reading)
        about |= {"size": size, "samples": samples, "max_new_tokens": max_new_tokens}
    if verifier is not None:
        responses, counts = verified(responses, verifier)
        about |= {"verifier": verifier.model, **counts}
    return find(responses), about


def _sampled(model: str, config: EvalConfig, seed: int, reading: ReadConfig | None) -> list[Spoken]:
    from seethink.data.prompts import PromptList
    from seethink.data.token_pieces import TokenPieces
    from seethink.eval.runner import draw_graded
    from seethink.eval.tasks.source import load_source_task
    from seethink.generate.make import make_generator
    from seethink.generate.protocol import Sampling
    from seethink.models.load import load_model
    from seethink.rewards.rewarder import Rewarder

    loaded = load_model(model)
    task = load_source_task(config, seed, chat=loaded.chat, reading=reading)
    generator, prompts = make_generator(loaded), PromptList(task.samples, loaded.chat)
    sampling, per_item = Sampling(config.max_new_tokens, 1.0), max(1, config.samples)
    with Rewarder(RewardConfig()) as rewarder:
        groups = draw_graded(task, generator, prompts, rewarder, per_item, sampling, seed, label="hallucination")
    return spoken(task.samples, groups, TokenPieces(loaded.chat.tokenizer))


def verified(responses: Sequence[Spoken], verifier: VerifierConfig) -> tuple[list[Spoken], dict[str, int]]:
    """The responses less the statements that the verifier says are none; how many it confirmed, took out, or could not
    judge, which stand. Raises UserError where it cannot be asked."""
    asked = [(one.text, span) for one in responses for span in one.spans]
    try:
        verdicts = iter(confirm(verifier, asked))
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
