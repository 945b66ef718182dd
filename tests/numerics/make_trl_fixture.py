"""Write tests/data/golden/trl_losses.json: what TRL 1.16 computes on random inputs.

TRL is no dependency of this project. To run this again, make a virtual environment, install this project in it, then

    pip install trl==1.16.0
    python tests/numerics/make_trl_fixture.py

The losses come out of `GRPOTrainer._compute_loss` itself, called on a stand-in for the trainer whose model answers
with the drawn log-probs. All in float64.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from seethink.models import torchvision_shim  # noqa: F401  (must come before transformers' processors)

FIXTURE = Path(__file__).resolve().parents[1] / "data" / "golden" / "trl_losses.json"
LENGTHS = (9, 1, 4, 7, 9, 2)
MAX_LENGTH = 12
CASES = (
    {"loss_type": "grpo", "clip_low": 0.2, "clip_high": 0.2, "beta": 0.0},
    {"loss_type": "grpo", "clip_low": 0.2, "clip_high": 0.28, "beta": 0.04},
    {"loss_type": "dapo", "clip_low": 0.2, "clip_high": 0.28, "beta": 0.0},
    {"loss_type": "dapo", "clip_low": 0.1, "clip_high": 0.3, "beta": 0.1},
    {"loss_type": "dr_grpo", "clip_low": 0.2, "clip_high": 0.2, "beta": 0.0},
    {"loss_type": "dr_grpo", "clip_low": 0.2, "clip_high": 0.2, "beta": 0.04},
)


def rounded(tensor: torch.Tensor) -> list[Any]:
    """Inputs are short decimals, so that the file holds exactly what was computed on."""
    return (tensor * 1e4).round().div(1e4).tolist()


def draw_inputs() -> dict[str, Any]:
    torch.manual_seed(0)
    shape = (len(LENGTHS), max(LENGTHS))
    logprobs = -3 * torch.rand(shape, dtype=torch.float64)
    return {
        "lengths": list(LENGTHS),
        "max_length": MAX_LENGTH,
        "logprobs": rounded(logprobs),
        "old_logprobs": rounded(logprobs + 0.3 * torch.randn(shape)),
        "reference_logprobs": rounded(logprobs + 0.3 * torch.randn(shape)),
        "advantages": rounded(torch.randn(len(LENGTHS))),
    }


def trl_loss(inputs: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    from trl import GRPOTrainer

    tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in inputs.items() if "logprobs" in k}
    logprobs = tensors["logprobs"].requires_grad_()
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    batch = {
        "prompt_ids": torch.zeros(len(LENGTHS), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(LENGTHS), 1, dtype=torch.long),
        "completion_ids": torch.zeros(mask.shape, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": torch.tensor(inputs["advantages"], dtype=torch.float64),
        "old_per_token_logps": tensors["old_logprobs"],
        "ref_per_token_logps": tensors["reference_logprobs"],
        "num_items_in_batch": mask.sum(),
    }
    trainer = stand_in_trainer(case, logprobs)
    loss = GRPOTrainer._compute_loss(trainer, trainer.model, batch)
    loss.backward()
    clipped = trainer._metrics["train"]["clip_ratio/region_mean"][0]
    return case | {"loss": loss.item(), "gradient": logprobs.grad.tolist(), "clip_fraction": clipped}


def stand_in_trainer(case: dict[str, Any], logprobs: torch.Tensor) -> Any:
    """Everything of a GRPOTrainer that its loss reads."""
    entropies = torch.zeros_like(logprobs)
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        loss_type=case["loss_type"],
        epsilon_low=case["clip_low"],
        epsilon_high=case["clip_high"],
        beta=case["beta"],
        max_completion_length=MAX_LENGTH,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logprobs, entropies, None),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
    )


def trl_advantages() -> dict[str, Any]:
    """The group-relative rewards and their standard deviations; null is a reward that could not be had."""
    from trl.trainer.utils import nanstd

    torch.manual_seed(1)
    rewards = torch.tensor([0.0, 0.2, 0.8, 1.0], dtype=torch.float64)[torch.randint(4, (5, 6))]
    rewards[1, 2] = rewards[3, :3] = torch.nan
    centred = (rewards - rewards.nanmean(1, keepdim=True)).nan_to_num(0.0)
    as_json = [[None if r != r else r for r in row] for row in rewards.tolist()]
    return {"rewards": as_json, "centred": centred.tolist(), "std": nanstd(rewards, dim=1).tolist()}


def trl_logprobs() -> dict[str, Any]:
    from trl.trainer.utils import selective_log_softmax_and_entropy

    torch.manual_seed(2)
    logits = torch.tensor(rounded(4 * torch.randn(1, 5, 11)), dtype=torch.float64)
    targets = torch.randint(11, (1, 5))
    logprobs, entropies = selective_log_softmax_and_entropy(logits, targets, temperature=0.7)
    numbers = {"logits": logits, "targets": targets, "logprobs": logprobs, "entropies": entropies}
    return {"temperature": 0.7} | {key: value[0].tolist() for key, value in numbers.items()}


def main() -> None:
    import trl

    inputs = draw_inputs()
    fixture = {
        "made_by": "tests/numerics/make_trl_fixture.py",
        "versions": {"trl": trl.__version__, "torch": torch.__version__},
        "inputs": inputs,
        "losses": [trl_loss(inputs, case) for case in CASES],
        "advantages": trl_advantages(),
        "logprobs": trl_logprobs(),
    }
    FIXTURE.write_text(json.dumps(fixture) + "\n", encoding="utf-8")
    print(f"wrote {FIXTURE}")


if __name__ == "__main__":
    main()
