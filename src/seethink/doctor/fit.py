"""Does the run fit its GPU? The memory table, and what to turn where it does not."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from seethink.config import Recipe
from seethink.core.types import Sample
from seethink.data.chat import Chat
from seethink.doctor.check import Report, Status, gigabytes
from seethink.doctor.machine import Gpus
from seethink.doctor.memory import RESERVE, Estimate, Load, estimate, longest_response, ranks_per_copy
from seethink.doctor.scan import Scan
from seethink.doctor.tokens import VIEW, vision_tokens
from seethink.doctor.tools import reply_tokens
from seethink.generate.conversations import TURNS
from seethink.models.forward import image_token_id

SECTION = "memory"


def check_memory(
    report: Report, recipe: Recipe, model: Any, chat: Chat | None, train: Scan | None, gpus: Gpus | None
) -> Estimate | None:
    if model is None:
        report.add(SECTION, "estimate", Status.SKIP, "nothing to reckon with before the model is understood")
        return None
    recipe = _for_device(recipe, "cpu" if gpus is None else "cuda")
    load, whence = data_load(recipe, model, chat, train)
    found = estimate(model, recipe, load)
    report.tables.append(memory_table(found, recipe))
    report.facts["memory"] = {**asdict(found), "device": found.device, "host": found.host, "load": asdict(load)}
    said = (
        f"{gigabytes(found.device)} on the device, {gigabytes(found.host)} of main memory for the proof of parts"
        f"{' and the moments' if found.offloaded else ''}{' and a copy to save' if found.snapshot else ''}; "
        f"{recipe.stage} in {recipe.dtype} over {_kept(recipe)} weights, "
        f"{found.micro_tokens:,} tokens per micro-batch, {whence}"
    )
    report.add(SECTION, "estimate", Status.INFO, f"{said}; {_mesh(recipe)}")
    _compare(report, found, recipe, gpus)
    return found


def _kept(recipe: Recipe) -> str:
    """How weights are kept."""
    return "float32" if recipe.lora.base == "float32" else f"float32 ({recipe.lora.base} beneath adapters)"


def _mesh(recipe: Recipe) -> str:
    cluster, share = recipe.cluster, ranks_per_copy(recipe)
    if share == 1:
        return "one process has all of the weights, so that all of it must fit one GPU"
    return f"per process, {share} of which share one copy of the weights ({cluster.shard})"


def _for_device(recipe: Recipe, device_type: str) -> Recipe:
    """The recipe with the token budget that it has on the device."""
    optim = recipe.optim.model_copy(update={"micro_tokens": recipe.optim.tokens_on(device_type)})
    return recipe.model_copy(update={"optim": optim})


def data_load(recipe: Recipe, model: Any, chat: Chat | None, train: Scan | None) -> tuple[Load, str]:
    """(what the data ask for, where that is known from)"""
    image_tokens, ratio = _one_image(model, chat)
    response = longest_response(recipe)
    if chat is not None:
        response += ((recipe.rollout.turns or TURNS) - 1) * reply_tokens(recipe, chat)
    if train is None or not train.lengths.prompts:
        prompt = image_tokens + 128
        return Load(prompt, prompt, image_tokens, response, ratio), "prompts of one image and 128 tokens assumed"
    lengths = train.lengths
    count = len(lengths.prompts)
    if recipe.stage == "sft" and lengths.responses:
        response = min(response, lengths.longest_response)
    mean = sum(lengths.prompts) / count
    load = Load(lengths.longest, mean, lengths.image_tokens / count, response, ratio)
    return load, f"prompts of up to {lengths.longest:,} tokens as measured, responses of up to {response:,}"


def _one_image(model: Any, chat: Chat | None) -> tuple[int, float]:
    """(image tokens of one picture, patches of the vision encoder for each)."""
    if chat is None:
        return 256, 4.0
    from PIL import Image

    prompt = chat.prompt(Sample("doctor", "What is this?", (Image.new("RGB", VIEW),)))
    tokens = max(1, prompt.input_ids.count(image_token_id(model.config)))
    return tokens, vision_tokens(model, prompt) / tokens


def memory_table(found: Estimate, recipe: Recipe) -> Table:
    title = f"Memory of one process ({recipe.stage}, weights {_kept(recipe)}, computed in {recipe.dtype})"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("part", no_wrap=True)
    for heading in ("weights", "gradients", "AdamW", "activations", "start copy (RAM)"):
        table.add_column(heading, justify="right")
    for part, memory in found.parts.items():
        sizes = (memory.weights, memory.gradients, memory.optimizer, memory.activations, memory.start_copy)
        table.add_row(part, *(gigabytes(size) if size else "-" for size in sizes))
    table.add_section()
    for name, size in (
        ("weights to compute with", found.casts),
        ("reference model", found.reference),
        ("critic", found.critic),
        ("logits of a chunk", found.logits),
        ("attention mask", found.mask),
        ("rollout: cache and logits", found.rollout),
    ):
        if size:
            table.add_row(name, gigabytes(size))
    if found.offloaded:
        table.add_row("AdamW's moments (RAM)", gigabytes(found.offloaded))
    table.add_section()
    table.add_row("while training", gigabytes(found.fixed + found.training))
    if found.rollout:
        table.add_row("while sampling", gigabytes(found.fixed + found.sampling))
    return table


def _compare(report: Report, found: Estimate, recipe: Recipe, gpus: Gpus | None) -> None:
    if gpus is None:
        said = "no GPU stated and none found here: nothing to compare with; state them, e.g. --gpus 8x80"
        report.add(SECTION, "fits", Status.INFO, said)
        return
    share = found.device / gpus.size
    said = f"{gigabytes(found.device)} on one GPU of {gigabytes(gpus.size)} ({100 * share:.0f}%); {gpus}"
    if share > 1:
        report.add(SECTION, "fits", Status.FAIL, said, _turn(found, recipe))
    elif share > RESERVE:
        advice = f"context and fragmentation take about {100 * (1 - RESERVE):.0f}%: {_turn(found, recipe)}"
        report.add(SECTION, "fits", Status.WARN, said, advice)
    else:
        report.add(SECTION, "fits", Status.PASS, said)
    trainers = recipe.cluster.trainers
    if gpus.count != trainers:
        said = f"cluster.trainers={trainers}, and {gpus.count} GPUs"
        advice = f"start cluster.trainers={gpus.count} processes to use them all"
        report.add(SECTION, "all GPUs", Status.WARN if trainers > gpus.count else Status.INFO, said, advice)


def _turn(found: Estimate, recipe: Recipe) -> str:
    """What takes most of what can be changed."""
    ways: list[tuple[int, str]] = []
    activations = sum(part.activations for part in found.parts.values())
    if not recipe.optim.gradient_checkpointing:
        ways.append((activations * 3 // 4, "optim.gradient_checkpointing=true"))
    ways.append((activations // 2, f"a lower optim.micro_tokens ({recipe.optim.micro_tokens:,} now)"))
    if recipe.dtype == "float32":
        ways.append((activations // 3, "dtype=bfloat16"))
    optimizer = sum(part.optimizer + part.gradients for part in found.parts.values())
    if not recipe.lora.parts:
        ways.append((optimizer * 9 // 10, 'LoRA (lora.parts=["language"])'))
    elif recipe.lora.base == "float32" and (recipe.stage == "sft" or recipe.rollout.engine == "in_process"):
        beneath = sum(found.parts[part].weights for part in recipe.lora.parts)
        ways.append((beneath * 8 // 10, "lora.base=4bit (QLoRA), which goes with cluster.shard=none"))
    ways += _sharding_ways(found, recipe) + _states_ways(found, recipe)
    if found.sampling > found.training:
        ways.append((found.rollout // 2, f"a lower rollout.max_rows ({recipe.rollout.max_rows} now)"))
    if found.reference:
        ways.append((found.reference, "algorithm.kl_beta=0, which loads no reference"))
    best = sorted(ways, key=lambda way: -way[0])[:3]
    return "by effect: " + "; ".join(f"{way} (about {gigabytes(size)} less)" for size, way in best)


def _states_ways(found: Estimate, recipe: Recipe) -> list[tuple[int, str]]:
    """What AdamW's moments in another form, or in another place, would save."""
    moments = sum(part.optimizer for part in found.parts.values())
    ways = [(moments, "optim.states=cpu, which takes them in main memory")]
    if recipe.optim.states == "float32":
        ways.append((moments * 7 // 10, "optim.states=8bit"))
    return ways if moments else []


def _sharding_ways(found: Estimate, recipe: Recipe) -> list[tuple[int, str]]:
    """What more processes, or another way of sharing, would save."""
    cluster = recipe.cluster
    resting = found.fixed - found.reference - found.critic
    ways = [(resting // 2, f"twice as many processes to share the weights (cluster.trainers, {cluster.trainers} now)")]
    if cluster.shard == "zero2" and ranks_per_copy(recipe) > 1:
        gradients = sum(part.gradients for part in found.parts.values())
        ways.append(((gradients + found.casts) * 8 // 10, "cluster.shard=zero3, which gathers layer by layer"))
    return ways
