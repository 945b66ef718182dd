"""The report of a run with 2,000 prompt groups: its size, the time to write it, and the speed of its viewer.

    python benchmarks/report.py [--groups 2000] [--size 8] [--repeats 10]

Chromium opens the page anew each time. Times are CPU milliseconds of the page's main thread up to the frame that shows
the result: what a reader waits for on an idle machine, and no more on one that other jobs share.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))
from make_analyses import make_analyses
from make_run import make_rl
from visit import CHROMIUM, main_thread

from seethink.report import write_report

PAINTED = "async () => { ACT; await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0))); }"
SEARCH = """const box = document.getElementById('v-search');
    box.value = 'wait';
    box.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }))"""
ACTS = {
    "filter: split rewards": "document.querySelector('[data-filter=split]').click()",
    "filter: wrong but confident": "document.querySelector('[data-filter=confident]').click()",
    "filter: high critical entropy": "document.querySelector('[data-filter=hesitant]').click()",
    "filter: hallucinated": "document.querySelector('[data-filter=hallucinated]').click()",
    "search in all responses": SEARCH,
    "next group": "document.dispatchEvent(new KeyboardEvent('keydown', { key: 'j' }))",
    "scrolling the list": "document.getElementById('v-list').scrollTop += 30000",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=2000)
    parser.add_argument("--size", type=int, default=8, help="completions per group")
    parser.add_argument("--repeats", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        steps = 200
        run = make_rl(Path(folder) / "grpo", random.Random(0), steps, given.groups * 10 // steps, given.size)
        make_analyses(run, steps)
        start = time.process_time()
        page = write_report(run)
        written = time.process_time() - start
        size = page.stat().st_size / 1e6
        times = measure(page, given.repeats)
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{given.groups:,} groups of {given.size}: {size:.1f} MB, written in {written:.1f} CPU seconds\n")
    print("| | median, ms | slowest | n |\n|---|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.0f} | {max(values):.0f} | {len(values)} |")


def measure(page: Path, repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds of each action, by name."""
    times: dict[str, list[float]] = {"opened and interactive": []} | {name: [] for name in ACTS}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(repeats):
            tab = browser.new_page()
            spent = main_thread(tab)
            tab.goto(page.as_uri())
            tab.evaluate(PAINTED.replace("ACT", ""))
            times["opened and interactive"].append(spent())
            for name, act in ACTS.items():
                before = spent()
                tab.evaluate(PAINTED.replace("ACT", act))
                times[name].append(spent() - before)
                if name.startswith(("filter", "search")):
                    tab.evaluate(PAINTED.replace("ACT", "document.getElementById('v-reset').click()"))
            tab.close()
        browser.close()
    return times


if __name__ == "__main__":
    main()
