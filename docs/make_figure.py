"""The README's figure: four charts out of a finished quickstart's report, as one PNG.

    seethink quickstart --out runs/quickstart
    python docs/make_figure.py runs/quickstart docs/images/report.png

Needs Chromium and playwright (`pip install -e '.[dev]'`); the charts are those of `seethink report`.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from markupsafe import Markup
from PIL import Image
from playwright.sync_api import sync_playwright

from seethink.report.blindness import sight
from seethink.report.charts import Figure
from seethink.report.curves import stage_figures
from seethink.report.dynamics import entropy_figures
from seethink.report.figures import accuracy_figure
from seethink.report.html import asset, environment
from seethink.report.load import load_run

WIDTH, SCALE = 860, 1.4
"""CSS pixels across, and image pixels for each of them."""
SHOWN = ("Accuracy by stage", "Reward", "Entropy by criticality", "Accuracy by picture")
STYLE = """
main { padding: 26px 30px 24px; }
.grid { gap: 24px 34px; } h4 { font-size: 15px; } .legend { font-size: 13px; } .note { font-size: 12.5px; }
"""
PAGE = """{% from "figure.html.j2" import figure %}
<!doctype html><meta charset="utf-8"><style>{{ style }}</style>
<main><div class="grid">{% for one in figures %}{{ figure(one) }}{% endfor %}</div></main>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a quickstart")
    parser.add_argument("out", type=Path, help="the PNG to write")
    given = parser.parse_args()
    style = asset("report.css", "charts.css") + STYLE
    page = environment().from_string(PAGE).render(style=Markup(style), figures=figures(given.run))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 600}, device_scale_factor=SCALE)
        tab.set_content(page)
        shot = tab.locator("main").screenshot()
        browser.close()
    # A palette: a third of the bytes, and nothing that the eye can tell.
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(128).save(given.out, optimize=True)
    print(f"{given.out}: {given.out.stat().st_size / 1000:.0f} kB")


def figures(folder: Path) -> list[Figure]:
    """The charts in `SHOWN` of the run and of its first reinforcement learning stage. Raises ValueError without one."""
    run = load_run(folder)
    stage = next((stage for stage in run.stages if stage.kind == "rl"), None)
    if stage is None:
        raise ValueError(f"{folder} has no stage of reinforcement learning; pass the folder of a quickstart")
    seen = sight(stage)
    drawn = [accuracy_figure(run), *stage_figures(stage)[0], *entropy_figures(stage), *(seen.figures if seen else ())]
    found = {figure.title: figure for figure in drawn if figure}
    return [found[title] for title in SHOWN if title in found]


if __name__ == "__main__":
    main()
