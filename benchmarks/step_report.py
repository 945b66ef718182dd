"""The tables of benchmarks/step.py from its JSON: `python benchmarks/step_report.py step_DATE.json`."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from step_work import Cell

PHASES = {"replay": ("fwd_bwd", "optimizer", "other"), "step": ("prompts", "rollout", "fwd_bwd", "optimizer", "rest")}
TITLES = {
    "replay": "Training alone: the same rollouts, from token ids and image tensors to updated weights",
    "step": "The whole step: images, sampling of fixed lengths, reward, advantages, training",
}
NOTES = """\
Seconds are medians; the sides ran in turn. **Ratio** is TRL's median over seethink's: above 1 seethink is faster;
where it is below 1 the cell is lost and says so. CPU ratio is the same of CPU seconds, all threads: other jobs on the
machine disturb it less. Work is the FLOPs with prompt and pictures repeated for every sample, over those with them
once per group: what sharing alone can give. Tokens/s count every row's prompt, for both sides alike. Peak memory
is resident memory at its highest, and in brackets what it is above the process with the model loaded. `% of limit` is
seethink's: the least time that the needed work (prompts and pictures once per group) could take at the matrix-product
and copy speeds measured in the same process, over the time taken. `rest` is reward, advantages, padding, metrics.
"""


def seconds(result: dict[str, Any], track: str, side: str, phase: str) -> float:
    """Median over the measured steps."""
    steps = result["tracks"][track]["seconds"][side]
    if phase == "rest":
        return statistics.median(s.get("reward", 0.0) + s.get("other", 0.0) for s in steps)
    return statistics.median(s.get(phase, 0.0) for s in steps)


def ratio(result: dict[str, Any], track: str, phase: str = "total") -> float:
    return seconds(result, track, "trl", phase) / seconds(result, track, "ours", phase)


def spread(result: dict[str, Any], track: str, side: str) -> float:
    """(max - min) / median of the measured steps."""
    totals = [step["total"] for step in result["tracks"][track]["seconds"][side]]
    return (max(totals) - min(totals)) / statistics.median(totals)


def one_line(result: dict[str, Any]) -> str:
    cell = Cell(**result["cell"])
    head = f"{cell.model:<5}{cell.key:<15}{cell.prompts:>3} prompts"
    if "refused" in result:
        return f"{head}  REFUSED: {result['refused']}"
    shown = [f"gradient error {result['check']['gradient_error']:.1e}", f"TRL rows {result['trl']['micro_rows']}"]
    for track in result["tracks"]:
        ours, trl = (seconds(result, track, side, "total") for side in ("ours", "trl"))
        ratios = f"{ratio(result, track):.2f}x (CPU {ratio(result, track, 'cpu'):.2f}x)"
        shown.append(f"{track} {ours:.3f} s / TRL {trl:.3f} s = {ratios}")
    return f"{head}  " + "  ".join(shown) + f"  ({result['wall_s']:.0f} s)"


def markdown(report: dict[str, Any]) -> str:
    about = report["about"]
    lines = ["# seethink and TRL 1.16.0: one GRPO step on a CPU", "", _about(about), "", NOTES]
    for model in dict.fromkeys(found["cell"]["model"] for found in report["cells"]):
        results = [found for found in report["cells"] if found["cell"]["model"] == model]
        measured = [found for found in results if "refused" not in found]
        lines += [f"## {model}", ""] + [f"Refused: {one_line(r)}" for r in results if "refused" in r]
        if measured:
            lines += [_facts(measured), ""]
            for track, title in TITLES.items():
                rows = [result for result in measured if track in result["tracks"]]
                lines += ([f"### {title}", "", *_table(rows, track), ""]) if rows else []
    return "\n".join(lines).rstrip() + "\n"


def _about(about: dict[str, Any]) -> str:
    shown = f"{about['date']}, {about['machine']}, torch {about['torch']}, float32, {about['repeats']} steps a side."
    changed = {key: about[key] for key in ("overrides", "trl_cache", "trl_matmul") if about.get(key)}
    return shown + (f" Changed: {changed}." if changed else "")


def _facts(results: list[dict[str, Any]]) -> str:
    errors = [r["check"]["gradient_error"] for r in results]
    peaks = [r["limits"]["matmul_gflops"] for r in results]
    loads = [load for r in results for track in r["tracks"].values() for load in track["load"]]
    parts = [
        f"{results[0]['about']['ours']['parameters'] / 1e6:.1f}M parameters.",
        f"Gradients of the two sides differ by at most {max(errors):.1e} of their norm.",
        f"Matrix products reached {min(peaks):.0f} to {max(peaks):.0f} GFLOP/s.",
        f"Load average while measuring: {min(loads):.1f} to {max(loads):.1f}.",
    ]
    for track in ("replay", "step"):
        ratios = sorted(ratio(r, track) for r in results if track in r["tracks"])
        if ratios:
            lost = sum(value < 1 for value in ratios)
            parts.append(
                f"{track}: median ratio {statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}, "
                f"{lost} of {len(ratios)} cells lost."
            )
    return " ".join(parts)


def _table(results: list[dict[str, Any]], track: str) -> list[str]:
    phases = PHASES[track]
    heads = ["G", "P", "R", "prompts", "TRL rows", "**ratio**", "CPU ratio", "work", "seethink s", "TRL s"]
    heads += [f"{phase} s (seethink / TRL)" for phase in phases]
    heads += ["tokens/s (seethink / TRL)", "% of limit", "peak MB seethink", "peak MB TRL"]
    if track == "step":
        heads.insert(-2, "% of limit, rollout")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    return lines + [_line(result, track) for result in results]


def _line(result: dict[str, Any], track: str) -> str:
    cell = Cell(**result["cell"])
    totals = {side: seconds(result, track, side, "total") for side in ("ours", "trl")}
    value = ratio(result, track)
    cells = [cell.group, cell.prompt, cell.response, cell.prompts, result["trl"]["micro_rows"]]
    cells += [f"**{value:.2f}**" + (" lost" if value < 1 else ""), f"{ratio(result, track, 'cpu'):.2f}"]
    cells += [f"{result['limits'].get('work_ratio', float('nan')):.2f}"]
    cells += [f"{totals['ours']:.3f}", f"{totals['trl']:.3f}"]
    for phase in PHASES[track]:
        cells.append(" / ".join(f"{seconds(result, track, side, phase):.3f}" for side in ("ours", "trl")))
    cells.append(" / ".join(f"{result['tokens'] / totals[side]:,.0f}" for side in ("ours", "trl")))
    limits = result["limits"]["seconds"]
    cells.append(f"{100 * limits['replay' if track == 'replay' else 'total'] / totals['ours']:.0f}")
    if track == "step":
        cells.append(f"{100 * limits['rollout'] / seconds(result, track, 'ours', 'rollout'):.0f}")
    for side in ("ours", "trl"):
        peak = result["tracks"][track]["peak_mb"][side]
        cells.append(f"{peak:,.0f} ({peak - result['about'][side]['loaded_mb']:,.0f})")
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> None:
    print(markdown(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
