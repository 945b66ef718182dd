"""GRPO for a vision-language model in one file: the loop to read first.

    python examples/grpo_loop.py --model runs/quickstart/coldstart/best --steps 20

Kept from the paper (section 3.3, eq. 6-7):
  1. sample a group of G answers to each prompt from the current weights;
  2. reward = 0.8 * answer correct + 0.2 * written as <think>...</think>answer;
  3. advantage = (reward - group mean) / group std;
  4. one gradient step on those very samples (strictly on-policy), no KL term.
Old log-probs are left out, because on-policy they change nothing: the ratio is 1, and only its gradient matters.
Packing, checkpoints, metrics files and parts are left out to keep the loop short. `seethink train` has them, and calls
the same functions: sampling, grading, advantages, log-probs and loss below are imported, not copied.

Letters: P prompts, G completions per prompt, T tokens, N response tokens of a micro-batch.
"""

from __future__ import annotations

import argparse
import time

import torch

from seethink import (
    Completion,
    LoadedModel,
    PackedSequence,
    Prompt,
    RewardConfig,
    Rewarder,
    collate,
    generate,
    group_advantages,
    load_model,
    load_samples,
    policy_loss,
    token_logprobs,
    token_weights,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="GRPO on the nano model in one file.")
    parser.add_argument("--model", default="nano", help="nano, or a checkpoint folder (a cold-started one learns)")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=16, help="P, prompts per step")
    parser.add_argument("--group-size", type=int, default=8, help="G, completions per prompt")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--max-new-tokens", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def grpo_step(
    loaded: LoadedModel,
    optimizer: torch.optim.Optimizer,
    prompts: list[Prompt],
    args: argparse.Namespace,
    rewarder: Rewarder,
    step: int,
) -> dict[str, float]:
    """One episode and one update; returns what happened."""
    # 1. Sample. The prompt and its image are encoded once per group; every completion has a seed of its own.
    groups = generate(
        loaded, prompts, group_size=args.group_size, max_new_tokens=args.max_new_tokens, seed=(args.seed, step)
    )

    # 2. Reward. A completion that could not be graded has reward NaN and is masked out below.
    rewarder.score([(p.sample, c) for p, group in zip(prompts, groups, strict=True) for c in group])
    rewards_PG = torch.tensor([[c.reward for c in group] for group in groups], dtype=torch.float64)

    # 3. Advantage, within each group.
    advantages_PG = group_advantages(rewards_PG)

    # 4. Update: the gradient of every group adds up to that of the whole episode, then one step.
    completions = [c for group in groups for c in group]
    masked = rewards_PG.isnan().flatten().tolist()
    lengths = [0 if skip else len(c.token_ids) for c, skip in zip(completions, masked, strict=True)]
    weights = token_weights(lengths, "sequence", args.max_new_tokens)
    loss = 0.0
    for i, (prompt, group) in enumerate(zip(prompts, groups, strict=True)):
        place = slice(i * args.group_size, (i + 1) * args.group_size)
        loss += group_backward(loaded, prompt, group, advantages_PG[i].tolist(), weights[place])
    norm = torch.nn.utils.clip_grad_norm_(loaded.model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    return {
        "reward": float(rewards_PG.nanmean()),
        "accuracy": sum(c.reward_parts["accuracy"] == 1 for c in completions) / len(completions),
        "tokens": sum(len(c.token_ids) for c in completions) / len(completions),
        "grad_norm": float(norm),
        "loss": loss,
    }


def group_backward(
    loaded: LoadedModel, prompt: Prompt, group: list[Completion], advantages: list[float], weights: list[float]
) -> float:
    """Add one group's share of the loss to the gradient; a row per completion."""
    rows = [
        [
            PackedSequence(
                prompt.input_ids,
                completion.token_ids,
                prompt.mm_kwargs,
                weight=weight,
                advantages=[advantage] * len(completion.token_ids),
                rope_ids=prompt.rope_ids,
            )
        ]
        for completion, advantage, weight in zip(group, advantages, weights, strict=True)
    ]
    batch = collate(rows, loaded.chat.pad_id).to(loaded.device)
    logprobs_N, _, _ = token_logprobs(loaded.model, batch, banned_ids=loaded.banned_ids)
    mask = batch.loss_mask
    loss, _ = policy_loss(logprobs_N, logprobs_N.detach(), batch.advantages[mask], batch.weights[mask])
    loss.backward()
    return float(loss.detach())


def main() -> None:
    args = parse_args()
    loaded = load_model(args.model)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=args.lr, weight_decay=0.0)
    rewarder = Rewarder(RewardConfig())
    samples = load_samples("world:math", size=args.prompts * args.steps, seed=args.seed)
    for step in range(args.steps):
        started = time.perf_counter()
        chosen = samples[step * args.prompts : (step + 1) * args.prompts]
        result = grpo_step(loaded, optimizer, [loaded.chat.prompt(s) for s in chosen], args, rewarder, step)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in result.items())
        print(f"step {step + 1}/{args.steps}  {shown}  {time.perf_counter() - started:.1f}s", flush=True)


if __name__ == "__main__":
    main()
