"""Writes small run folders for the report's tests: a whole pipeline, with hostile text where asked."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><!--<script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    "\x1b[31mred\x1b[0m \u202eback\u202c \u2028line \ud800 {{ 7 * 7 }} javascript:alert(4)",
)
SECRET = "hunter2-never-shown"
BLIND = (" I", " cannot", " see", " the", " image", ".")
KINDS = ("true", "blank", "shuffled")
DOMAINS = ("math", "reading", "charts", "shapes", "grids", "counting")
COLOURS = {"red": "#d33a2c", "blue": "#2f62c9", "green": "#2c8f4e", "orange": "#e08a1e"}
ACCURACY = {"base": (0.18, 0.34), "cold-start": (0.45, 0.37), "RL": (0.705, 0.42), "connector": (0.70, 0.51)}


def make_pipeline(path: Path, hostile: bool = False, steps: int = 120, prompts: int = 6, size: int = 8) -> Path:
    """A quickstart's folder: base, cold start, RL and connector tuning."""
    rng = random.Random(7)
    folders = {"base": "base", "cold-start": "cold_start", "RL": "grpo", "connector": "connector"}
    for name, folder in folders.items():
        (path / folder).mkdir(parents=True)
        _write(path / folder / "eval.json", {"label": name, "scores": _scores(name, rng)})
    make_sft(path / "cold_start", rng, ("vision", "connector", "language"), with_data=True)
    make_sft(path / "connector", rng, ("connector",))
    make_rl(path / "grpo", rng, steps, prompts, size, hostile)
    for folder in ("cold_start", "grpo", "connector"):
        make_evaluation(path / folder)
    pipeline = {
        "title": HOSTILE[0] if hostile else "Nano quickstart",
        "stages": [{"name": name, "dir": folder} for name, folder in folders.items()],
        "in_domain": ["math"],
        "out_of_domain": list(DOMAINS[1:]),
        "seconds": 541.2,
        "machine": HOSTILE[1] if hostile else "2 CPU cores, 8 GB",
        "versions": {"seethink": "0.1.0", "torch": "2.13.0", "transformers": "5.16.1", "python": "3.11.9"},
        "command": f"seethink quickstart --out runs/quickstart --api-key={SECRET}",
    }
    _write(path / "pipeline.json", pipeline)
    return path


def make_sft(path: Path, rng: random.Random, trained: tuple[str, ...], with_data: bool = False) -> Path:
    """A supervised stage."""
    path.mkdir(parents=True, exist_ok=True)
    recipe = {"name": path.name, "stage": "sft", "model": "nano", "seed": 0, "train": list(trained)}
    _write(path / "recipe.json", recipe | {"optim": {"lr": 1e-3, "warmup": 0.05}, "max_tokens": 128})
    rows = []
    for step in range(1, 201):
        fall = math.exp(-step / 45)
        row = {
            "step": step,
            "loss/total": 0.31 + 1.9 * fall + rng.gauss(0, 0.05),
            "optim/grad_norm": 1 + 4 * fall,
        }
        row |= {f"optim/lr_{part}": 1e-3 * (1 + math.cos(math.pi * step / 200)) / 2 for part in trained}
        row |= {f"optim/grad_norm_{part}": 0.4 + fall + rng.random() * 0.2 for part in trained}
        row |= {
            "time/step_s": 0.42,
            "time/train_s": 0.4,
            "throughput/trained_tokens_per_s": 5100 + rng.random(),
        }
        row |= {f"parts/change_{part}": change for part, change in _change(trained, step).items()}
        rows.append(row | ({"loss/val": 0.36 + 1.8 * fall} if step % 20 == 0 else {}))
    _lines(path / "metrics.jsonl", rows)
    _write(path / "parts.json", _parts(trained, 200))
    _lines(path / "blindness.jsonl", [_look(step, step / 200) for step in range(0, 201, 50)])
    if with_data:
        dropped = {"wrong_answer": 303, "rambling": 71, "language_mixed": 58, "too_long": 4}
        _write(path / "data.json", {"read": 2000, "kept": 1564, "dropped": dropped})
    return path


def make_rl(
    path: Path, rng: random.Random, steps: int = 120, prompts: int = 6, size: int = 8, hostile: bool = False
) -> Path:
    """A reinforcement learning stage with rollouts every tenth step."""
    (path / "rollouts").mkdir(parents=True, exist_ok=True)
    recipe: dict[str, Any] = {"name": "nano-grpo", "stage": "grpo", "model": "nano", "seed": 0}
    recipe |= {
        "optim": {"lr": 2e-4, "clip": 1.0},
        "rl": {"group_size": size, "clip_low": 0.2, "clip_high": 0.2},
    }
    recipe |= {"verifier": {"api_key": SECRET, "url": f"https://me:{SECRET}@host/v1"}}
    if hostile:
        recipe["note"] = HOSTILE[1]
    _write(path / "recipe.json", recipe)
    _lines(path / "metrics.jsonl", [_rl_row(step, steps, rng) for step in range(1, steps + 1)])
    _write(path / "parts.json", _parts(("vision", "connector", "language"), steps))
    looks = [_look(step, step / steps) for step in range(0, steps + 1, 10)]
    if hostile:
        looks[-1] |= {"verdict": HOSTILE[1], "failed": list(HOSTILE), "blindness/accuracy_true": HOSTILE[0]}
        looks[0] |= {"verdict": "broken", "failed": list(HOSTILE)}
    _lines(path / "blindness.jsonl", looks)
    names = [_image(path / "images", index, rng) for index in range(24)]
    for step in range(10, steps + 1, 10):
        skill = 0.45 + 0.3 * step / steps
        groups = [_group(step, index, names, skill, size, rng) for index in range(prompts)]
        if hostile:
            _poison(groups)
        _lines(path / "rollouts" / f"step_{step:06d}.jsonl", groups)
    return path


def make_evaluation(path: Path, prompts: int = 4, skill: float = 0.6) -> None:
    """The same few prompts answered by every checkpoint, as an evaluation stores them."""
    rng = random.Random(path.name)
    images = random.Random(5)
    names = [_image(path / "images", index, images) for index in range(prompts)]
    groups = [_group(0, index, names, skill, 2, rng) for index in range(prompts)]
    for index, group in enumerate(groups):
        group |= {
            "id": f"test-{index}",
            "question": f"Question {index} of the evaluation?",
            "domain": DOMAINS[index % 2],
        }
    (path / "eval").mkdir(parents=True, exist_ok=True)
    _lines(path / "eval" / "rollouts.jsonl", groups)


def _rl_row(step: int, steps: int, rng: random.Random) -> dict[str, Any]:
    done = step / steps
    accuracy = min(1.0, 0.44 + 0.3 * (1 - math.exp(-3 * done)) + rng.gauss(0, 0.035))
    form = min(1.0, 0.93 + 0.06 * done + rng.gauss(0, 0.01))
    fall = math.exp(-2 * done)
    return {
        "step": step,
        **{
            f"parts/change_{part}": change
            for part, change in _change(("vision", "connector", "language"), step).items()
        },
        "loss/policy": rng.gauss(0, 0.01),
        "reward/mean": 0.8 * accuracy + 0.2 * form,
        "reward/accuracy": accuracy,
        "reward/format": form,
        "reward/std": 0.3,
        "reward/masked": 0.0,
        "advantage/zero_variance_share": 0.2 + 0.3 * done + rng.gauss(0, 0.04),
        "entropy/mean": 0.18 + 0.25 * fall + rng.gauss(0, 0.012),
        "entropy/critical": None if step % 17 == 0 else 1.1 + 0.3 * fall + rng.gauss(0, 0.09),
        "entropy/critical_count": 40 + rng.randrange(20),
        "response/length_mean": 38 + 9 * done + rng.gauss(0, 1.2),
        "response/length_max": 74 + rng.randrange(22),
        "response/truncated_share": max(0, 0.03 * fall + rng.gauss(0, 0.005)),
        "optim/grad_norm": 0.5 + 0.4 * fall + abs(rng.gauss(0, 0.08)),
        "optim/grad_norm_vision": 0.05 + 0.02 * rng.random(),
        "optim/grad_norm_connector": 0.14 + 0.05 * rng.random(),
        "optim/grad_norm_language": 0.45 + 0.3 * rng.random(),
        "loss/clip_fraction": 0.0,
        "mismatch_kl/mean": 10 ** rng.uniform(-7.5, -7),
        "mismatch_kl/max": 10 ** rng.uniform(-5, -4.2),
        "time/step_s": 1.9,
        "time/rollout_s": 1.1,
        "time/train_s": 0.68,
        "time/reward_s": 0.06,
        "throughput/generated_tokens_per_s": 9200 + rng.random(),
        "throughput/trained_tokens_per_s": 6100 + rng.random(),
    }


def _look(step: int, done: float) -> dict[str, Any]:
    """What the blindness guard writes."""
    row: dict[str, Any] = {"step": step, "verdict": "sees", "failed": [], "notes": [], "stopped": False}
    for kind, accuracy, logprob in (("true", 0.4, -0.9), ("blank", 0.13, -1.4), ("shuffled", 0.2, -1.3)):
        gain = 0.3 * done if kind == "true" else 0.02 * done
        row |= {f"blindness/accuracy_{kind}": accuracy + gain, f"blindness/logprob_{kind}": logprob + gain}
    row |= {f"blindness/{name}_t_{kind}": 4.2 + done for name in ("accuracy", "logprob") for kind in KINDS[1:]}
    return row | {"blindness/samples": 64, "blindness/path_mismatch": 3e-7, "time/blindness_s": 1.7}


def _change(trained: tuple[str, ...], step: int) -> dict[str, float]:
    speed = {"vision": 0.4, "connector": 1.0, "language": 0.7}
    return {part: 0.01 * speed[part] * math.sqrt(step) if part in trained else 0.0 for part in speed}


def _parts(trained: tuple[str, ...], steps: int) -> dict[str, Any]:
    sizes = {"vision": 402_816, "connector": 82_304, "language": 868_992}
    rows = [
        {"part": part, "parameters": count, "trainable": part in trained,
         "in_optimizer": count if part in trained else 0, "lr": 2e-4 if part in trained else None}
        for part, count in sizes.items()
    ]  # fmt: skip
    return {"parts": rows, "step": steps, "change": _change(trained, steps)}


def _scores(stage: str, rng: random.Random) -> list[dict[str, Any]]:
    rows = []
    for index, domain in enumerate(DOMAINS):
        centre = ACCURACY[stage][0] if domain == "math" else ACCURACY[stage][1] + 0.04 * (index - 3)
        for difficulty, offset, n in (
            ("all", 0.0, 600),
            ("easy", 0.14, 200),
            ("normal", 0.0, 200),
            ("hard", -0.14, 200),
        ):
            accuracy = centre + offset + rng.gauss(0, 0.005)
            error = math.sqrt(accuracy * (1 - accuracy) / n)
            rates = {"mean_tokens": 44.1 + index, "no_answer_rate": 0.012, "format_rate": 0.988}
            row = {"domain": domain, "difficulty": difficulty, "n": n, "accuracy": accuracy, "stderr": error}
            rows += [row | rates | {"mode": mode} for mode in ("avg@4", "greedy")]
    return rows


def _group(step: int, index: int, names: list[str], skill: float, size: int, rng: random.Random) -> dict[str, Any]:
    values = {colour: rng.randrange(1, 10) for colour in COLOURS}
    answer = str(values["red"] + values["blue"])
    choices = [answer, str(int(answer) + 2), str(int(answer) + 5), "0"] if index % 3 == 0 else []
    share = rng.choice((0.0, skill, skill, skill, 1.0))
    completions = [_completion(values, answer, rng.random() < share, rng) for _ in range(size)]
    mean = sum(one["reward"] for one in completions) / max(1, size)
    spread = math.sqrt(sum((one["reward"] - mean) ** 2 for one in completions) / max(1, size))
    for one in completions:
        one["advantage"] = (one["reward"] - mean) / spread if spread else 0.0
    return {
        "step": step,
        "id": f"math-{step}-{index}",
        "domain": "math",
        "difficulty": ("easy", "normal", "hard")[index % 3],
        "question": "What is red plus blue?",
        "images": [names[(step // 10 * 6 + index) % len(names)]],
        "answer": "A" if choices else answer,
        "choices": choices,
        "completions": completions,
    }


def _completion(values: dict[str, int], answer: str, right: bool, rng: random.Random) -> dict[str, Any]:
    given = answer if right else str(int(answer) + rng.choice((-2, -1, 1, 3)))
    words = ["<think>", "Red", " is", f" {values['red']}", ".", " Blue", " is", f" {values['blue']}", "."]
    if rng.random() < 0.4:
        words += [
            " Wait",
            ",",
            " look",
            " at",
            " blue",
            " again",
            ".",
            " It",
            " is",
            f" {values['blue']}",
            ".",
        ]
    blind = rng.random() < 0.1
    words += list(BLIND) if blind else []
    words += [
        f" {values['red']}",
        " +",
        f" {values['blue']}",
        " =",
        f" {given}",
        ".",
        "</think>",
        "The",
        " answer",
    ]
    words += [" is", f" {given}", "."]
    entropies = [max(0.0, rng.gauss(0.9, 0.5) if word.strip().isdigit() else rng.gauss(0.05, 0.1)) for word in words]
    critical = [word == " Wait" for word in words]
    entropies = [1.6 if marked else value for value, marked in zip(entropies, critical, strict=True)]
    text, start = "".join(words), "".join(words).find("".join(BLIND))
    return {
        "text": text,
        "hallucinated": [[start + 1, start + len("".join(BLIND))]] if blind else [],
        "tokens": words,
        "entropies": entropies,
        "critical": critical,
        "reward": 1.0 if right else 0.2,
        "reward_parts": {"accuracy": 1.0 if right else 0.0, "format": 1.0},
        "advantage": 0.0,
        "verdict": "correct" if right else "wrong",
        "extracted": given,
        "truncated": False,
    }


def _poison(groups: list[dict[str, Any]]) -> None:
    first = groups[0]
    first |= {
        "question": " ".join(HOSTILE),
        "answer": HOSTILE[1],
        "choices": list(HOSTILE),
        "difficulty": HOSTILE[0],
    }
    bad = first["completions"][0]
    bad |= {
        "tokens": list(HOSTILE),
        "entropies": [0.1, 2.0, 0.4, 0.2],
        "critical": [False, True, False, False],
        "text": "".join(HOSTILE),
        "hallucinated": [[0, len(HOSTILE[0])], [5, 10**9], ["a", None], HOSTILE[0], [-3, -1]],
    }
    bad |= {"extracted": HOSTILE[0], "reward_parts": {HOSTILE[0]: 1.0}, "truncated": True}
    groups[1]["images"] = ["../../secret.png", "/etc/passwd", "images/absent.png"]


def _image(folder: Path, index: int, rng: random.Random) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (56, 56), "white")
    draw = ImageDraw.Draw(picture)
    for place, colour in enumerate(COLOURS.values()):
        corner = (8 + 28 * (place % 2), 4 + 28 * (place // 2))
        draw.text(corner, str(rng.randrange(1, 10)), fill=colour, font_size=20)
    picture.putpixel((0, 0), (index, index, index))
    picture.save(folder / f"{index:04x}.png")
    return f"images/{index:04x}.png"


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
