"""Kill every stage at random points, resume, compare; prints a Markdown table.

python tests/faults/kill_table.py --points 20
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.fork_server import ForkServer
from helpers.killing import STAGES, Kills, Point, saving


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=list(STAGES))
    arguments = parser.parse_args()
    started = time.monotonic()
    rows, failed = [], []
    with ForkServer() as server, tempfile.TemporaryDirectory(prefix="seethink-kill-") as folder:
        for stage in arguments.stages:
            kills = Kills(server, Path(folder), stage, arguments.seed)
            points: list[Point] = []
            for number in range(arguments.points):
                points.append(kills.point(number))
                print(f"{stage} {number}: {points[-1].place}: {points[-1].exact}", file=sys.stderr, flush=True)
            rows.append(row(stage, points, len(kills.whole["metrics"])))
            failed += [point for point in points if not point.exact]
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {platform.system()}, one thread a run, "
          f"{time.monotonic() - started:.0f} s, seed {arguments.seed}\n")  # fmt: skip
    print("| stage | steps | points | kills | before the first update | in a step | inside a save | exact |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(rows))
    for point in failed:
        print(f"\nNOT EXACT: {point.stage} {point.number} at {point.place}: {point.detail}")
    return 1 if failed else 0


def row(stage: str, points: list[Point], steps: int) -> str:
    places = [place for point in points for place in point.place.split(", then ")]
    places = [place for place in places if place != "finished before"]
    inside = sum(map(saving, places))
    early = sum(place == "start" for place in places)
    exact = sum(point.exact for point in points)
    counts = (len(points), len(places), early, len(places) - inside - early, inside, f"{exact} of {len(points)}")
    return f"| {stage} | {steps} | " + " | ".join(map(str, counts)) + " |"


if __name__ == "__main__":
    sys.exit(main())
