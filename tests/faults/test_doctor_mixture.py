"""`seethink doctor` on a mixture: each source is checked by itself, and all of them as the run would train on them."""

from __future__ import annotations

from pathlib import Path

from helpers.doctoring import GRPO, examine, good_rows, named, one, worst, write_rows
from seethink.doctor.check import Report, Status


def examined(folder: Path, *words: str) -> Report:
    """A recipe of `words` without training data of its own."""
    lines = GRPO.read_text(encoding="utf-8").splitlines(keepends=True)
    recipe = folder / "mixture.toml"
    recipe.write_text("".join(line for line in lines if not line.startswith(("train =", "train_size ="))))
    report: Report = examine(folder, *words, recipe=recipe)
    return report


def test_each_source_is_checked_and_what_they_share_is_found(tmp_path: Path) -> None:
    rows = good_rows(tmp_path, 30)
    first = write_rows(tmp_path / "first.jsonl", rows[:20])
    again = write_rows(tmp_path / "again.jsonl", [{**rows[3], "domain": "x"}, *rows[20:28], {"prompt": "no gold"}])
    report = examined(
        tmp_path,
        f"data.mixture=[{{source='{first}', weight=3}}, {{source='{again}'}}, {{source='world:math', size=24}}]",
        "data.domain_weights={x=2, y=1}",
        "data.max_bad_share=0.2",
        "blindness.every=0",
    )
    assert one(report, "data.mixture first", "rows").found.endswith("every row was read, and every image decoded")
    assert one(report, "data.mixture again", "rows").status is Status.WARN
    assert one(report, "data.mixture math", "rows").found.endswith("of the world only the first 12 are looked at")
    said = [check.found for check in named(report, "data.train", "mixture")]
    assert said[0] == "source first: 20 rows, weight 3: 60.0% of the draws, 1.59 per row and epoch"
    assert said[3] == "domain x: 1 rows, weight 2: 4.0% of the draws, 2.12 per row and epoch"
    repeats = one(report, "data.train", "repeats")
    assert "1 row repeat" in repeats.found
    assert "again.jsonl, row 1" in repeats.found
    assert "first.jsonl, row 4" in repeats.found
    assert not named(report, "data.train", "ids")
    assert [(check.name, check.found) for check in worst(report)] == [
        ("domain weights", "data.domain_weights: no row has the domain 'y'; there are 'default', 'math', 'x'")
    ]


def test_a_source_that_cannot_be_read_fails_alone_and_wrong_keys_are_left_out(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "first.jsonl", good_rows(tmp_path, 12))
    report = examined(
        tmp_path, f"data.mixture=[{{source='{file}', weight=0}}, {{source='{tmp_path}/gone.jsonl'}}, {{weight=2}}]"
    )
    failed = {(check.section, check.name) for check in worst(report)}
    assert failed == {
        ("recipe", "data.mixture.0.weight"),
        ("recipe", "data.mixture.2.source"),
        ("data.mixture gone", "source"),
    }
    assert one(report, "data.mixture first", "rows").status is Status.PASS
