"""Memory and communication of one GRPO step on paper: shapes on the meta device, link speeds as parameters.

    python benchmarks/scale_on_paper.py                       # InternVL3-38B on 8, 64 and 512 GPUs
    python benchmarks/scale_on_paper.py --model internvl3-8b --gpus 8,16,32 --network 25

Nothing is measured here. Rollouts are left out: they run on servers of their own. Assumed: a collective of B bytes
per GPU takes B / (speed of its slowest link); FSDP overlaps gathering with computing either not at all or wholly,
which gives the two ends of the range.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shapes import SHAPES, save_shape

from seethink.config import Recipe, load_recipe
from seethink.doctor.memory import Load, estimate
from seethink.models.describe import meta_model
from seethink.models.units import unit_sizes

ROOT = Path(__file__).resolve().parents[1]
PROMPT = 384
"""Tokens of a prompt: one tile of 256, and text."""
NODE = 8
"""GPUs that the fast links join."""


HEADINGS = (
    "GPUs", "prompts per step", "sharded", "GB per GPU", "GB moved per GPU", "compute s", "gather s", "reduce s",
    "step s", "efficiency",
)  # fmt: skip


@dataclass
class Links:
    flops: float
    nvlink: float
    network: float

    def speed(self, gpus: int) -> float:
        """Bytes per second and GPU among so many."""
        return self.nvlink if gpus <= NODE else self.network


@dataclass
class Plan:
    """One way of using the GPUs: `copies` of the weights, each over gpus / copies of them."""

    gpus: int
    zero: str
    copies: int
    prompts: int

    @property
    def share(self) -> int:
        return self.gpus // self.copies


def step_seconds(
    plan: Plan, parameters: int, recipe: Recipe, response: int, links: Links
) -> tuple[float, float, float]:
    """(computing, gathering weights, reducing gradients) of the rank with most work."""
    cuts = math.ceil(plan.gpus / plan.prompts)  # of a group, where there are more ranks than groups
    groups, rows = math.ceil(plan.prompts * cuts / plan.gpus), math.ceil(recipe.rollout.group_size / cuts)
    tokens = groups * (PROMPT + rows * response)
    compute = 8 * parameters * tokens / links.flops  # forward, backward, and the forward again (recomputation)
    batches = groups * (1 + math.ceil(rows * response / recipe.optim.tokens_on("cuda")))
    moved = parameters * (plan.share - 1) / plan.share
    rounds = 1 if plan.zero == "zero2" else 2 * batches
    gather = 2 * moved * rounds / links.speed(plan.share)
    reduce = 4 * moved * (1 if plan.zero == "zero2" else batches) / links.speed(plan.share)
    reduce += 8 * parameters / plan.share / links.network if plan.copies > 1 else 0.0
    return compute, gather, reduce


def plans(gpus: int, prompts: int) -> list[Plan]:
    """Sharded over all; and in copies over two nodes each."""
    found = [Plan(gpus, "zero2", 1, prompts), Plan(gpus, "zero3", 1, prompts)]
    if gpus > 2 * NODE:
        found += [Plan(gpus, zero, gpus // (2 * NODE), prompts) for zero in ("zero2", "zero3")]
    return found


def gigabytes_per_gpu(plan: Plan, recipe: Recipe, model: object, response: int) -> float:
    cluster = recipe.cluster.model_copy(update={"trainers": plan.gpus, "replicas": plan.copies, "shard": plan.zero})
    settings = recipe.model_copy(update={"cluster": cluster})
    found = estimate(model, settings, Load(PROMPT, PROMPT, 256, 2 * response, 4.0))  # type: ignore[arg-type]
    return (found.fixed + found.training) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SHAPES, default="internvl3-38b")
    parser.add_argument("--gpus", default="8,64,512")
    parser.add_argument("--prompts", default="32,512", help="prompts per step")
    parser.add_argument("--response", type=int, default=2000, help="mean tokens of a response")
    parser.add_argument("--tflops", type=float, default=400, help="of one GPU, as reached in bfloat16")
    parser.add_argument("--nvlink", type=float, default=300, help="GB/s per GPU inside a node")
    parser.add_argument("--network", type=float, default=40, help="GB/s per GPU between nodes")
    asked = parser.parse_args()
    links = Links(asked.tflops * 1e12, asked.nvlink * 1e9, asked.network * 1e9)
    with tempfile.TemporaryDirectory() as folder:
        model = meta_model(str(save_shape(asked.model, Path(folder))))
    recipe = load_recipe(ROOT / "recipes" / f"{asked.model}-grpo.toml", ["model=nano"])
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{asked.model}: {parameters / 1e9:.1f}B parameters, {len(unit_sizes(model))} units and the root; {links}\n")
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for prompts in map(int, asked.prompts.split(",")):
        tokens = prompts * (PROMPT + recipe.rollout.group_size * asked.response)
        ideal = 8 * parameters * tokens / links.flops
        for plan in [p for gpus in map(int, asked.gpus.split(",")) for p in plans(gpus, prompts)]:
            compute, gather, reduce = step_seconds(plan, parameters, recipe, asked.response, links)
            moved = (gather + reduce) * links.speed(plan.share) / 1e9
            fast, slow = max(compute, gather + reduce), compute + gather + reduce
            memory = gigabytes_per_gpu(plan, recipe, model, asked.response)
            copies = f", {plan.copies} copies" if plan.copies > 1 else ""
            print(
                f"| {plan.gpus} | {prompts} | {plan.zero}{copies} | {memory:.0f} | {moved:,.0f} | {compute:.0f} | "
                f"{gather:.1f} | {reduce:.1f} | {fast:.0f} - {slow:.0f} | "
                f"{ideal / plan.gpus / slow:.0%} - {ideal / plan.gpus / fast:.0%} |"
            )


if __name__ == "__main__":
    main()
