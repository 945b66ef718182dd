"""How a GRPO step's seconds and peak memory grow: against group size, prompt, response, pictures a prompt.

    .venv/bin/python benchmarks/step_growth.py --out benchmarks/step_growth_DATE            # seethink alone
    .venv/bin/python benchmarks/step_growth.py --sides ours trl --out ...                   # with TRL beside it

One at a time is varied from a base of G = 8, P = 128, R = 128 with two prompts a step; pictures are varied at 112
pixels (16 tokens) each, and the prompt with them. Writes OUT.json, OUT.png (seconds of the whole step and of training
alone, and peak memory above the loaded model) and OUT.md (the numbers, and the exponent b of the fit
seconds = a * x^b through the last three points). The drawing is done by TRL's environment, which has matplotlib;
with another Python that has it: `python benchmarks/step_growth.py --draw OUT.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

from step import ROOT, about_run
from step_driver import Settings, measure
from step_models import IMAGE_FRAME, SHAPES, TEMPLATE_TOKENS, make_cell, model_folder
from step_report import seconds
from step_work import Cell

BASE = {"group": 8, "prompt": 128, "response": 128}
AXES: dict[str, tuple[int, ...]] = {
    "group": (4, 8, 16, 32, 64),
    "prompt": (64, 128, 256, 512, 1024),
    "response": (32, 64, 128, 256, 512, 1024),
    "images": (1, 2, 4, 8, 16),
}
LABELS = {"group": "G, completions per prompt", "prompt": "prompt tokens"}
LABELS |= {"response": "response tokens", "images": "pictures a prompt (16 tokens each)"}
IMAGE = 112, 16
"""Pixels a side and tokens of the pictures that are counted."""


def cells(model: str, axis: str, values: tuple[int, ...], prompts: int) -> list[Cell]:
    made = []
    for value in values:
        if axis == "images":
            length = TEMPLATE_TOKENS + 4 + value * (IMAGE[1] + IMAGE_FRAME)
            made.append(make_cell(model, BASE["group"], length, BASE["response"], prompts, (IMAGE[0], value)))
        else:
            shape = BASE | {axis: value}
            # One picture size along an axis: what grows is the number of pictures.
            layout = (IMAGE[0], (shape["prompt"] - TEMPLATE_TOKENS - 1) // (IMAGE[1] + IMAGE_FRAME))
            made.append(make_cell(model, shape["group"], shape["prompt"], shape["response"], prompts, layout))
    return made


def above_loaded(result: dict[str, Any], track: str, side: str) -> float:
    return result["tracks"][track]["peak_mb"][side] - result["about"][side]["loaded_mb"]


def exponent(xs: list[int], ys: list[float]) -> float:
    """Slope of log y over log x through the last three points."""
    pairs = [(math.log(x), math.log(max(y, 1e-9))) for x, y in zip(xs, ys, strict=True)][-3:]
    mx, my = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    return sum((x - mx) * (y - my) for x, y in pairs) / sum((x - mx) ** 2 for x, _ in pairs)


def series(points: list[dict[str, Any]], side: str) -> dict[str, list[float]]:
    found = {f"{track} s": [seconds(p, track, side, "total") for p in points] for track in ("step", "replay")}
    return found | {"peak MB": [max(above_loaded(p, t, side) for t in ("step", "replay")) for p in points]}


def markdown(report: dict[str, Any], sides: list[str]) -> str:
    about = report["about"]
    made = f"{about['date']}, {about['machine']}, model {report['model']}."
    note = "Memory is what is above the loaded model. Exponents: fit through the last three points."
    lines = ["# Growth of a GRPO step", "", f"{made} {note}", ""]
    for axis, points in report["axes"].items():
        xs = report["values"][axis]
        lines += [f"## {LABELS[axis]}", "", f"| | {' | '.join(map(str, xs))} | exponent |"]
        lines.append("|---|" + "---:|" * (len(xs) + 1))
        for side in sides:
            for name, ys in series(points, side).items():
                digits = 0 if "MB" in name else 3
                shown = " | ".join(f"{y:,.{digits}f}" for y in ys)
                lines.append(f"| {side} {name} | {shown} | {exponent(xs, ys):.2f} |")
        lines.append("")
    return "\n".join(lines)


def draw(report: dict[str, Any], sides: list[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, len(report["axes"]), figsize=(4 * len(report["axes"]), 6.5), squeeze=False)
    colors = {"ours": "#1f5fbf", "trl": "#c2571a"}
    for column, (axis, points) in enumerate(report["axes"].items()):
        xs = report["values"][axis]
        for side in sides:
            for name, ys in series(points, side).items():
                panel = panels[int("MB" in name)][column]
                style = "--" if name.startswith("replay") else "-"
                label = f"{'seethink' if side == 'ours' else 'TRL'}, {'whole step' if 'step' in name else 'training'}"
                panel.plot(xs, ys, style, marker="o", color=colors[side], label=label)
        for row, unit in enumerate(("seconds", "peak MB above the loaded model")):
            panels[row][column].set(xscale="log", yscale="log", xlabel=LABELS[axis], xticks=xs, ylabel=unit)
            panels[row][column].set_xticks([], minor=True)
            panels[row][column].set_xticklabels(xs)
            panels[row][column].grid(alpha=0.3)
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), default="nano")
    parser.add_argument("--axis", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--points", type=int, help="only the first so many values of each axis")
    parser.add_argument("--sides", nargs="+", choices=("ours", "trl"), default=["ours"])
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="recipe key of seethink's side")
    parser.add_argument("--trl-python", default=Settings.trl_python)
    parser.add_argument("--models", type=Path, default=ROOT / "runs" / "bench-step")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draw", type=Path, metavar="OUT.json", help="measure nothing, only write OUT.md and OUT.png")
    args = parser.parse_args()
    if args.draw:
        write(args.draw)
    else:
        run(args)


def write(path: Path) -> None:
    report = json.loads(path.read_text(encoding="utf-8"))
    path.with_suffix(".md").write_text(markdown(report, report["sides"]), encoding="utf-8")
    draw(report, report["sides"], path.with_suffix(".png"))


def run(args: argparse.Namespace) -> None:
    if not args.out:
        raise SystemExit("--out says where the results go")
    args.trl_cache = args.trl_matmul = None
    settings = Settings(args.threads, args.repeats, overrides=tuple(args.set), trl_python=args.trl_python)
    report: dict[str, Any] = {
        "about": about_run(args),
        "model": args.model,
        "sides": args.sides,
        "values": {},
        "axes": {},
    }
    for axis in args.axis:
        values = AXES[axis][: args.points]
        points = []
        for cell in cells(args.model, axis, values, args.prompts):
            folder = model_folder(args.models, cell)
            points.append(measure(cell, folder, settings, ("replay", "step"), peer="trl" in args.sides))
            step, memory = seconds(points[-1], "step", "ours", "total"), above_loaded(points[-1], "step", "ours")
            print(f"{axis} {cell.key} {cell.images} pictures: step {step:.3f} s, {memory:,.0f} MB", flush=True)
        report["values"][axis], report["axes"][axis] = list(values), points
    path = args.out.with_suffix(".json")
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    subprocess.run([args.trl_python, __file__, "--draw", str(path)], check=True)


if __name__ == "__main__":
    main()
