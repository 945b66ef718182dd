"""What each piece of models/small_cpu gains in one RL step and one SFT step of the nano model.

    python benchmarks/small_cpu.py               # several minutes on a core of its own
    python benchmarks/small_cpu.py --threads 2   # the machine must be idle: seconds by the clock

The shapes are the quickstart's: 16 prompts x 16 completions of at most 96 tokens, and 32 traces in rows of 320 tokens.
Every variant lacks one piece, or the decoder's captured step. The variants take
turns, step by step, and a ratio is that of their medians. With one thread the seconds are those of the core, so that
other jobs disturb little. Peak memory, above the loaded model, is that of a process for each variant and step. No
weight changes, so that all variants sample the same tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

from seethink.core.types import Completion, Microbatch, Prompt
from seethink.generate.make import make_generator
from seethink.generate.protocol import Sampling
from seethink.models.load import load_model
from seethink.models.scorer import TokenScorer
from seethink.models.small_cpu.closed_form import use_closed_forms
from seethink.rl.losses import policy_loss
from seethink.rl.packing import PackedSequence, pack
from seethink.rl.prompt_groups import pack_groups
from seethink.world.make import world_samples

GENERATE = "seethink.generate.in_process"
VARIANTS = ("all", "captured step", "threads", "closed form", "none")
"""Which piece is left out: of "all" no piece is, of "none" every piece of models/small_cpu."""
PROMPTS, GROUP, TOKENS, TRACES, PACK, MICRO_TOKENS = 16, 16, 96, 32, 320, 8192


class Subject:
    """The nano model without one of the pieces."""

    def __init__(self, variant: str, model: str) -> None:
        self.variant = variant
        self.loaded = load_model(model)
        if variant not in ("closed form", "none"):
            use_closed_forms(self.loaded.model)
        self._scorer = TokenScorer(self.loaded)
        self._optimizer = torch.optim.AdamW(self.loaded.model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
        self._generator = make_generator(self.loaded)
        chat = self.loaded.chat
        self._prompts = [chat.prompt(s) for s in world_samples("world:math", "train", PROMPTS, 0)]
        traces = world_samples("world:all:traces", "train", TRACES, 0)
        self._traces = [(chat.prompt(s), chat.response_ids(s.response or "")) for s in traces]

    @contextlib.contextmanager
    def _without(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if self.variant == "captured step":
                failure = RuntimeError("left out")
                stack.enter_context(patch(f"{GENERATE}.step._capture", side_effect=failure))
            if self.variant in ("threads", "none"):
                stack.enter_context(patch(f"{GENERATE}.generator.threads_for", lambda work: contextlib.nullcontext()))
            yield

    def rl(self) -> None:
        """Rollout and update."""
        with self._without():
            groups = self._generator.generate(self._prompts, GROUP, Sampling(TOKENS), (0,))
        sequences = [
            _sequence(prompt, completion.token_ids, group, completion, 1.0 if number % 2 else -1.0)
            for group, (prompt, completions) in enumerate(zip(self._prompts, groups, strict=True))
            for number, completion in enumerate(completions)
        ]
        options = {"micro_tokens": MICRO_TOKENS, "pad_id": self.loaded.chat.pad_id}
        self._update(pack_groups(sequences, device=self.loaded.device, copies=False, **options))

    def sft(self) -> None:
        sequences = [_sequence(prompt, ids, group) for group, (prompt, ids) in enumerate(self._traces)]
        self._update(pack(sequences, pack_length=PACK, micro_tokens=MICRO_TOKENS, pad_id=self.loaded.chat.pad_id))

    def _update(self, batches: list[Microbatch]) -> None:
        prefix, shared = None, None
        for batch in batches:
            if batch.prefix is not prefix:
                if shared is not None:
                    shared.backward()
                prefix, shared = batch.prefix, None if batch.prefix is None else self._scorer.share(batch.prefix)
            outputs, mask = self._scorer(batch, shared), batch.loss_mask
            advantages = batch.advantages[mask] if prefix is not None else torch.ones_like(outputs.logprobs)
            old = outputs.logprobs.detach()
            policy_loss(outputs.logprobs, old, advantages, batch.weights[mask])[0].backward()
        if shared is not None:
            shared.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def _sequence(
    prompt: Prompt, ids: list[int], group: int, completion: Completion | None = None, advantage: float = 0.0
) -> PackedSequence:
    return PackedSequence(
        prompt.input_ids,
        ids,
        prompt.mm_kwargs,
        weight=1e-3,
        advantages=[advantage] * len(ids),
        generator_logprobs=completion.generator_logprobs if completion else [0.0] * len(ids),
        rope_ids=prompt.rope_ids,
        group=group,
    )


def _status(key: str) -> int:
    """kB of this process, by /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key + ":")))


def peak_mb(variant: str, model: str, step: str) -> float:
    """Peak memory of one step above the loaded model, in a process of its own."""
    command = [sys.executable, __file__, "--model", model, "--peak", f"{variant}:{step}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(variant: str, model: str, step: str) -> None:
    torch.set_num_threads(1)
    subject = Subject(variant, model)
    before = _status("VmRSS")
    for _ in range(2):
        getattr(subject, step)()
    print((_status("VmHWM") - before) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        variant, step = args.peak.split(":")
        print_peak(variant, args.model, step)
        return
    torch.set_num_threads(args.threads)
    clock: Callable[[], float] = time.process_time if args.threads == 1 else time.perf_counter
    subjects = [Subject(variant, args.model) for variant in VARIANTS]
    kind = "CPU seconds" if args.threads == 1 else "seconds by the clock"
    print(f"{date.today()}  {args.threads} threads  torch {torch.__version__}  n = {args.repeats}  medians of {kind}")
    for step in ("rl", "sft"):
        seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for turn in range(args.repeats + 1):
            for subject in subjects[turn % len(VARIANTS) :] + subjects[: turn % len(VARIANTS)]:
                started = clock()
                getattr(subject, step)()
                if turn:  # the first warms up
                    seconds[subject.variant].append(clock() - started)
        whole = median(seconds["all"])
        peaks = {} if args.no_memory else {v: peak_mb(v, args.model, step) for v in VARIANTS}
        for variant, values in seconds.items():
            memory = f"{peaks[variant]:8.0f} MB  x {peaks[variant] / peaks['all']:.3f}" if peaks else ""
            label = variant if variant in ("all", "none") else f"no {variant}"
            print(f"{step:<4}{label:<17}{median(values):8.3f} s  x {median(values) / whole:.3f}{memory}", flush=True)


if __name__ == "__main__":
    main()
