"""A real forward, backward and rollout of the real model on real rows, where they fit. No weight is changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from seethink.config import PARTS, Recipe
from seethink.core.errors import UserError
from seethink.core.types import Microbatch, Prompt, Sample
from seethink.data.control_images import blanked
from seethink.doctor.check import Report, Status, gigabytes, plural
from seethink.doctor.golds import perfect
from seethink.doctor.machine import free_main_memory
from seethink.doctor.memory import Estimate
from seethink.doctor.model import Model
from seethink.doctor.scan import Scan
from seethink.generate.conversations import introduced, with_environment
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models.load import LoadedModel, load_recipe_model
from seethink.models.parts import split_parts
from seethink.rl.batching import Batcher, given_responses
from seethink.train.grpo import make_loss
from seethink.train.policy import LossFn, Policy
from seethink.train.sft import response_loss
from seethink.train.start import make_policy

SECTION = "step"
CPU_FLOPS = 2e10
"""Of a core, cautiously."""
PATIENCE = 300.0
"""Seconds that a step on the CPU may be expected to take."""
ROOM = 0.8
"""Share of the free memory that is used."""

Pairs = list[tuple[Prompt, list[int]]]


def check_step(report: Report, recipe: Recipe, model: Model, train: Scan | None, need: Estimate | None) -> None:
    reason = _hindrance(model, train, need)
    if reason:
        report.add(SECTION, "forward and backward", Status.SKIP, reason)
        return
    assert train is not None
    assert model.chat is not None
    try:
        loaded = load_recipe_model(recipe)
        loaded.chat = introduced(recipe.tools, loaded.chat)
        _try(report, recipe, loaded, _chosen(train))
    except UserError as error:
        report.add(SECTION, "forward and backward", Status.FAIL, str(error), "see the checks of the model above")
    except Exception as error:  # any error of any model's code is the finding
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        advice = "the run would stop with this at its first step; if the checks above pass, it is worth an issue"
        report.add(SECTION, "forward and backward", Status.FAIL, found, advice)


def _hindrance(model: Model, train: Scan | None, need: Estimate | None) -> str:
    """Why there is no trial step; "" where there can be one."""
    if model.chat is None or not model.weights_ok or need is None:
        return "the model's files are not all there, or not in order"
    if train is None:
        return "no good row to try it with"
    if torch.cuda.is_available():
        free, wanted, where = torch.cuda.mem_get_info()[0], need.fixed + need.training, "the GPU"
    else:
        free, wanted, where = free_main_memory(), need.step, "main memory"
    if wanted > ROOM * free:
        return f"about {gigabytes(wanted)} would be needed, {gigabytes(free)} of {where} are free"
    if not torch.cuda.is_available():
        weights = sum(part.weights for part in need.parts.values()) // 4
        seconds = 8 * weights * min(need.micro_tokens, _tokens(train)) / CPU_FLOPS / torch.get_num_threads()
        if seconds > PATIENCE:
            return f"it would take about {seconds / 60:.0f} minutes on this CPU"
    return ""


def _tokens(train: Scan) -> int:
    count = len(_chosen(train))
    return count * (train.lengths.longest + train.lengths.longest_response + 16)


def _chosen(train: Scan) -> list[Sample]:
    """The first rows and the longest one."""
    longest = [train.longest] if train.longest is not None and all(s is not train.longest for s in train.kept) else []
    return [*train.kept, *longest]


def _try(report: Report, recipe: Recipe, loaded: LoadedModel, samples: list[Sample]) -> None:
    pairs = [(loaded.chat.prompt(s), _response(s, loaded)) for s in samples]
    policy = make_policy(recipe, loaded, 1)
    batches, loss_fn = _batches(recipe, loaded, pairs)
    before = policy.proof.change()
    metrics = policy.forward_backward(batches, loss_fn)
    _check_loss(report, metrics, pairs)
    _check_gradients(report, recipe, loaded, saw_images=policy.saw_images)
    for parameter in loaded.model.parameters():
        parameter.grad = None
    _check_images(report, recipe, policy, samples)
    _check_rollout(report, recipe, loaded, [prompt for prompt, _ in pairs[:2]])
    moved = {part: change for part, change in policy.proof.change().items() if change != before[part]}
    if moved:
        report.add(
            SECTION, "weights", Status.FAIL, f"weights moved without a step: {moved}", "this is a bug: report it"
        )


def _response(sample: Sample, loaded: LoadedModel) -> list[int]:
    said = sample.response or f"<think>I see it.</think>{perfect(sample)}"
    return [i for i in loaded.chat.response_ids(said) if i not in loaded.banned_ids]


def _batches(recipe: Recipe, loaded: LoadedModel, pairs: Pairs) -> tuple[list[Microbatch], LossFn]:
    """Micro-batches and loss by the very code of the stage; in RL every response is better than expected."""
    sequences = given_responses(pairs)
    if recipe.stage != "sft":
        sequences = [replace(s, advantages=[1.0] * len(s.response_ids)) for s in sequences]
    batches = Batcher.for_model(loaded, recipe.optim, groups=recipe.stage != "sft").batches(sequences)
    return batches, response_loss if recipe.stage == "sft" else make_loss(recipe.algorithm)


def _check_loss(report: Report, metrics: dict[str, Any], pairs: Pairs) -> None:
    loss = float(metrics["loss/total"].sum())
    tokens = sum(len(prompt.input_ids) + len(response) for prompt, response in pairs)
    tried = f"{plural(len(pairs), 'row')} ({tokens:,} tokens)"
    if math.isfinite(loss):
        report.add(SECTION, "forward and backward", Status.PASS, f"the loss of {tried} is finite", loss=loss)
    else:
        advice = "damaged weights, or a dtype that the model does not bear: try dtype=float32"
        report.add(SECTION, "forward and backward", Status.FAIL, f"the loss of {tried} is {loss}", advice, loss=loss)


def _check_gradients(report: Report, recipe: Recipe, loaded: LoadedModel, *, saw_images: bool) -> None:
    """Each part that learns gets a gradient, no frozen one does, and all of it is finite."""
    silent, stray, broken, still = [], [], [], 0
    for part, named in split_parts(loaded.model).items():
        norms = {name: float(p.grad.norm()) for name, p in named.items() if p.grad is not None}
        broken += [name for name, norm in norms.items() if not math.isfinite(norm)]
        trained = part in recipe.parts.train
        reached = any(norm > 0 for norm in norms.values())
        if trained and not reached and (saw_images or part == "language"):
            silent.append(part)
        if not trained and norms:
            stray.append(part)
        still += sum(p.requires_grad and name not in norms for name, p in named.items())
    if silent or stray or broken:
        said = [f"no gradient reaches {', '.join(silent)}"] * bool(silent)
        said += [f"{', '.join(stray)} is frozen but gets one"] * bool(stray)
        said += [f"it is not finite in {broken[0]}"] * bool(broken)
        advice = "the run would stop after its first step; `seethink parts MODEL` shows what belongs where"
        report.add(SECTION, "gradients", Status.FAIL, "; ".join(said), advice)
        return
    found = f"they reach {', '.join(p for p in PARTS if p in recipe.parts.train)} and nothing else, all finite"
    if not saw_images:
        found += " (no image among these rows: vision and connector need one)"
    if still:
        found += f"; {plural(still, 'tensor')} took no part (some families skip their last vision layer)"
    report.add(SECTION, "gradients", Status.PASS, found)


def _check_images(report: Report, recipe: Recipe, policy: Policy, samples: Sequence[Sample]) -> None:
    """The same rows with grey pictures must get other log-probs."""
    shown = [sample for sample in samples if sample.images or sample.videos]
    if not shown:
        report.add(SECTION, "images reach the model", Status.SKIP, "no image among these rows")
        return
    loaded = policy.loaded
    scores = []
    for group in (shown, [blanked(sample) for sample in shown]):
        pairs = [(loaded.chat.prompt(s), _response(s, loaded)) for s in group]
        scores.append(torch.cat(policy.logprobs(_batches(recipe, loaded, pairs)[0])).float())
    change = float((scores[0] - scores[1]).abs().mean())
    found = f"log-probs change by {change:.3g} nats a token when the pictures turn grey"
    if change > 0:
        report.add(SECTION, "images reach the model", Status.PASS, found, change=change)
    else:
        advice = "pixels are lost between processor and model: use processor and weights of one checkpoint"
        report.add(SECTION, "images reach the model", Status.FAIL, found, advice, change=change)


def _check_rollout(report: Report, recipe: Recipe, loaded: LoadedModel, prompts: list[Prompt]) -> None:
    sampling = Sampling(8, recipe.rollout.temperature, recipe.rollout.top_p)
    own = make_generator(loaded, max_rows=recipe.rollout.max_rows)
    generator = with_environment(recipe.tools, own, loaded.chat)
    groups = generator.generate(prompts, 1, sampling, (recipe.seed,))
    completions = [completion for group in groups for completion in group]
    banned = set(loaded.banned_ids) & {i for c in completions for i in c.token_ids}
    if banned or not all(c.token_ids for c in completions):
        advice = "this is a bug of the decoder: report it"
        report.add(SECTION, "rollout", Status.FAIL, f"an image token or nothing was sampled: {sorted(banned)}", advice)
        return
    shown = " | ".join(repr(c.text[:50]) for c in completions)
    report.add(SECTION, "rollout", Status.PASS, f"{plural(len(completions), 'short completion')}: {shown}")
