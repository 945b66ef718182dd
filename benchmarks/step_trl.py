"""TRL's side of benchmarks/step.py: `GRPOTrainer.train()` itself, held at every step until the parent asks for it.

A callback reads commands where a step begins and answers where it ends. For the replay track `_prepare_inputs` hands
out inputs that the trainer's own `_generate_and_score_completions` made, with the replayed tokens for sampled ones.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from step_work import (
    BETAS,
    CLIP,
    LR,
    MAX_NORM,
    Cell,
    Phases,
    Replay,
    Row,
    claim_stdout,
    commands,
    flat,
    is_right,
    make_replay,
    make_rows,
    memory_mb,
    reset_peak,
)

SHIM = Path(__file__).resolve().parents[1] / "src" / "seethink" / "models" / "torchvision_shim.py"
if SHIM.exists():  # torchvision without its compiled operators; must come before transformers
    spec = importlib.util.spec_from_file_location("torchvision_shim", SHIM)
    shim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shim)

import trl.trainer.grpo_trainer as grpo_module  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

Inputs = dict[str, Any]


def reward(completions: list[Any], **_: Any) -> list[float]:
    return [float(is_right(completion[0]["content"])) for completion in completions]


def as_example(row: Row) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": row.text}], "images": row.images}


def make_config(cell: Cell, micro_rows: int, folder: str, cache: str | None) -> GRPOConfig:
    """TRL at its best on a CPU: float32, no recomputation, no reference, no old log-probs, nothing logged or saved."""
    accumulate = cell.rows // micro_rows
    return GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        fp16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=micro_rows,
        gradient_accumulation_steps=accumulate,
        steps_per_generation=accumulate,
        num_generations=cell.group,
        num_iterations=1,
        max_completion_length=cell.response,
        generation_kwargs={"min_new_tokens": cell.response},
        cache_implementation=cache,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        beta=0.0,
        epsilon=CLIP,
        loss_type="grpo",
        scale_rewards="group",
        learning_rate=LR,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        max_grad_norm=MAX_NORM,
        max_steps=1_000_000,
        shuffle_dataset=False,
        dataloader_num_workers=0,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        log_completions=False,
        disable_tqdm=True,
        seed=0,
    )


class Gate(TrainerCallback):
    """Hands the trainer's loop to the parent, one step at a time."""

    def __init__(self, side: Peer) -> None:
        self.side = side

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.side.wait()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.side.phases.enter("optimizer")

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.side.phases.leave()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.side.reply(self.side.phases.stop())


class Peer:
    """A GRPOTrainer on the work of a cell."""

    def __init__(self, cell: Cell, command: dict[str, Any], pipe: Any, inbox: Iterator[dict[str, Any]]) -> None:
        self.cell, self.phases, self.pipe, self.inbox = cell, Phases(), pipe, inbox
        if command.get("matmul"):
            torch.set_float32_matmul_precision(command["matmul"])
        self.model = AutoModelForImageTextToText.from_pretrained(command["folder"], dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(command["folder"], padding_side="left")
        self.loaded_mb = reset_peak()["now"]
        rows = [as_example(row) for row in make_rows(cell, cell.prompts * command["steps"])]
        # The pictures stay in memory: read from a data set, they would be decoded once per completion.
        dataset = Dataset.from_dict({"row": list(range(len(rows)))})
        dataset.set_transform(lambda batch: _columns([rows[i] for i in batch["row"]]))
        self.trainer = GRPOTrainer(
            model=self.model,
            reward_funcs=reward,
            args=make_config(cell, command["micro_rows"], tempfile.mkdtemp(), command.get("cache")),
            train_dataset=dataset,
            processing_class=processor,
            callbacks=[Gate(self)],
        )
        self.replayed: list[Inputs] | None = None
        """Micro-batches to hand out; None: the trainer makes its own."""
        self.replay_batches: list[Inputs] | None = None
        self._patch(processor)

    def _patch(self, processor: Any) -> None:
        trainer, phases = self.trainer, self.phases
        prepare, number = trainer._prepare_inputs, iter(range(10**9))

        def inputs_of(batch: Any) -> Inputs:
            return prepare(batch) if self.replayed is None else self.replayed[next(number) % len(self.replayed)]

        trainer._prepare_inputs = inputs_of
        phases.wrap(type(processor), "__call__", "prompts")
        phases.wrap(grpo_module, "apply_chat_template", "prompts")
        names = {"_tokenize_prompts": "prompts", "_generate_single_turn": "rollout", "_calculate_rewards": "reward"}
        names |= {"_prepare_inputs": "other", "training_step": "fwd_bwd"}
        names |= {"_clip_grad_norm": "optimizer", "_get_grad_norm": "optimizer"}
        for attribute, name in names.items():
            phases.wrap(trainer, attribute, name)

    def reply(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self.pipe)

    def wait(self) -> None:
        """Answer commands until one asks for a step of the trainer."""
        for command in self.inbox:
            match command["do"]:
                case "replay":
                    self.replayed = self._replay_batches(self.trainer.args.gradient_accumulation_steps)
                    self.phases.start()
                    return
                case "step":
                    self.replayed = self.replay_batches = None
                    self.phases.start()
                    return
                case "check":
                    self.reply(self.check(command["path"]))
                case "tune":
                    self.reply(self.tune(command["candidates"]))
                case "reset":
                    self.reply(reset_peak())
                case "memory":
                    self.reply(memory_mb())
        os._exit(0)  # the parent has closed the pipe; the trainer's loop would go on

    def check(self, path: str) -> dict[str, Any]:
        """Loss and gradient of a ragged replay: two micro-batches where steps have several, without a step."""
        replay = make_replay(self.cell, min(2, self.cell.prompts), 1, ragged=True)
        parts = min(2, self.trainer.args.gradient_accumulation_steps)
        loss = self._accumulate(self._inputs(replay, parts))
        named = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.model.named_parameters()}
        np.save(path, flat(named))
        self.model.zero_grad()
        return {"loss": loss, "parameters": len(named)}

    def tune(self, candidates: list[int]) -> dict[str, float]:
        """Seconds of forward and backward of the whole step, by rows of a micro-batch: the best of up to three."""
        found: dict[str, float] = {}
        self._timed(candidates[0])  # warm-up
        for rows in candidates:
            times = [self._timed(rows)]
            while len(times) < 3 and sum(times) < 3:
                times.append(self._timed(rows))
            found[str(rows)] = min(times)
        return found

    def _timed(self, rows: int) -> float:
        self.replay_batches = None
        batches = self._replay_batches(self.cell.rows // rows)
        self.replay_batches = None
        self.phases.start()
        self._accumulate(batches)
        self.model.zero_grad()
        return self.phases.stop()["total"]

    def _accumulate(self, batches: list[Inputs]) -> float:
        trainer = self.trainer
        kept, trainer.current_gradient_accumulation_steps = trainer.current_gradient_accumulation_steps, len(batches)
        step, self.replayed = trainer._step, None
        loss = 0.0
        for batch in batches:
            self.replayed = [batch]
            loss += float(trainer.training_step(self.model, {}, None))
        trainer.current_gradient_accumulation_steps, trainer._step = kept, step
        return loss

    def _replay_batches(self, parts: int) -> list[Inputs]:
        if self.replay_batches is None:
            self.replay_batches = self._inputs(make_replay(self.cell, self.cell.prompts, 2), parts)
        return self.replay_batches

    def _inputs(self, replay: Replay, parts: int) -> list[Inputs]:
        """The trainer's own inputs with the replayed tokens in the place of sampled ones, in `parts` micro-batches."""
        trainer = self.trainer
        sample = trainer._generate_single_turn
        trainer._generate_single_turn = lambda *_: (replay.token_ids, None)
        examples = [as_example(row) for row in replay.rows for _ in range(self.cell.group)]
        inputs = trainer._generate_and_score_completions(examples)
        trainer._generate_single_turn = sample
        inputs["advantages"] = torch.tensor(replay.advantages)
        split = grpo_module.split_tensor_dict(grpo_module.split_pixel_values_by_grid(inputs), parts)
        return [grpo_module.unsplit_pixel_values_by_grid(part) for part in split]


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {key: [row[key] for row in rows] for key in rows[0]}


def main() -> None:
    pipe, inbox = claim_stdout(), commands()
    command = next(inbox)
    torch.set_num_threads(command["threads"])
    side = Peer(Cell(**command["cell"]), command, pipe, inbox)
    example = make_rows(side.cell, 1)[0]
    text = grpo_module.prepare_multimodal_messages(as_example(example)["prompt"], images=example.images)
    ids, *_ = side.trainer._tokenize_prompts([text])
    parameters = sum(p.numel() for p in side.model.parameters())
    side.reply({"prompt_tokens": len(ids[0]), "parameters": parameters, "loaded_mb": side.loaded_mb})
    side.trainer.train()


if __name__ == "__main__":
    sys.exit(main())
