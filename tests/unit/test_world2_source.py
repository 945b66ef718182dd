"""The second world as data: sources, files, previews, and what can be scored on it without seeing."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.command_line import run_command
from helpers.rows import load_samples
from seethink.config import EvalConfig
from seethink.core.errors import UserError
from seethink.eval.tasks.source import eval_samples, source_name
from seethink.world.make import all_domains, is_world, one_domain, parse_source, world_samples
from seethink.world.v2.domains import DOMAINS, GROUPS
from seethink.world.v2.floors import draw, floors
from seethink.world.v2.scene import LEVELS
from seethink.world.v2.source import Source, parse


def test_sources() -> None:
    assert parse("world2:search,dice") == Source(("search", "dice"))
    read = parse("world2:rl:traces?stage=rl&levels=2-5&image=blank&share=0.5")
    assert (read.domains, read.form, read.stage, read.levels) == (GROUPS["rl"], "traces", "rl", (2, 3, 4, 5))
    assert (read.damage.image, read.damage.share) == ("blank", 0.5)
    assert parse("world2:all").domains == tuple(DOMAINS)
    assert parse("world2:all?levels=3").levels == (3,)
    assert parse("world2:captions:probes?stage=base").form == "probes"
    assert parse("world2:tuning,cold:traces?stage=tuning").domains == (*GROUPS["tuning"], *GROUPS["cold"])


def test_what_takes_the_first_world_takes_the_second() -> None:
    assert is_world("world2:rl")
    assert parse_source("world2:core:traces?stage=rl") == (GROUPS["core"], True)
    assert one_domain("world2:core:traces?stage=rl", "looks") == "world2:looks?stage=rl"
    assert one_domain("world2:core:worked?levels=2", "looks") == "world2:looks:text?levels=2"
    assert (all_domains("world2:core"), all_domains("world:math")) == ("world2:all", "world:all")
    assert one_domain("world2:core:traces?leaps=0.5", "looks") == "world2:looks"
    assert source_name("world2:core?stage=rl") == "world2"


def test_some_traces_leap_to_the_answer() -> None:
    source = "world2:cold:traces?stage=coldstart"
    plain, mixed = (world_samples(source + leaps, "train", 320, 0) for leaps in ("", "&leaps=0.6"))
    leapt = []
    for careful, sample in zip(plain, mixed, strict=True):
        assert (careful.id, careful.question, careful.answer) == (sample.id, sample.question, sample.answer)
        assert sample.response is not None
        assert sample.response.endswith(str(careful.response).rpartition(" so ")[2])
        if sample.response != careful.response:
            assert not re.search("=|Wait| and [0-9]", sample.response)
            assert sample.meta["turns"] == []
            leapt.append(sample.domain)
    assert 140 < len(leapt) < 210  # of 320, less those whose working has no step to leave out
    assert set(leapt) == set(GROUPS["cold"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("world2:maths", "no domain 'maths'; choose from sums_dusk, .*, core, cold, rl, tuning"),
        (
            "world2:dice:trace",
            "no form 'trace' after the domains; choose from traces, answers, captions",
        ),
        ("world2:dice?stage=sft", "no stage 'sft'; choose from base, coldstart, rl, tuning, eval"),
        ("world2:dice?levels=0-3", "levels='0-3': expected a level from 1 to 8 or a range"),
        ("world2:dice?levels=5-2", "levels='5-2'"),
        ("world2:dice?levels=x", "levels='x'"),
        ("world2:dice?denials=0.5", "denials are a share of the traces"),
        ("world2:dice?size=3", "no option 'size'.*there are stage, levels, leaps"),
        ("world2:dice?leaps=0.5", "leaps are a share of the traces"),
        ("world2:dice:traces?leaps=2", "leaps='2': give a share from 0 to 1"),
        ("world2:held?stage=rl", "the domain 'second' is for stage=eval alone: no stage trains on it"),
        ("world2:roman?stage=base", "the domain 'roman' is for stage=eval, and for stage=base in the forms captions"),
        ("world2:captions:traces?stage=tuning", "the domain 'gauges' is for stage=eval"),
        ("world2:tables:traces?stage=coldstart", "the domain 'tables' never comes in a cold start or in RL"),
        ("world2:dice?image=dark", "choose from blank, crop, absent"),
    ],
)
def test_sources_of_another_form_are_refused(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        world_samples(source, "train", 1, 0)


def test_evaluations_ask_probes_and_texts() -> None:
    probes, texts = (
        eval_samples(EvalConfig(data=f"world2:dice,looks:{form}?levels=2", size=4), 0) for form in ("probes", "text")
    )
    assert [s.domain for s in probes] == ["dice"] * 4 + ["looks"] * 4
    assert all("name" in s.meta and s.answer.isdigit() and not s.choices for s in probes)
    assert all(s.question.startswith("I see") and not s.images for s in texts)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UserError, match="splits train, val, test, not 'dev'"):
        world_samples("world2:dice", "dev", 1, 0)


def test_damage_leaves_the_other_items_as_they_are() -> None:
    plain = world_samples("world2:core", "test", 40, 0)
    damaged = world_samples("world2:core?image=blank&share=0.4", "test", 40, 0)
    blank = [len(s.pictures()[0].getcolors(12544)) == 1 for s in damaged]
    assert 8 <= sum(blank) <= 24
    for one, two, is_blank in zip(plain, damaged, blank, strict=True):
        assert (one.id, one.question, one.answer) == (two.id, two.question, two.answer)
        assert is_blank or one.pictures()[0].tobytes() == two.pictures()[0].tobytes()


@pytest.mark.parametrize("source", ["world2:cold:traces?stage=coldstart", "world2:search,tuning:worked"])
def test_parquet_gives_the_same_samples_back(source: str, tmp_path: Path) -> None:
    from seethink.world.make import write_parquet

    made = world_samples(source, "train", 20, 0)
    write_parquet(made, tmp_path / "world.parquet")
    back = load_samples(str(tmp_path / "world.parquet"), "train", None, 0)
    assert len(back) == len(made)
    for was, now in zip(made, back, strict=True):
        assert [p.tobytes() for p in now.pictures()] == [p.tobytes() for p in was.pictures()]
        for field in ("id", "question", "answer", "choices", "domain", "difficulty", "response"):
            assert getattr(now, field) == getattr(was, field), field


def test_make_writes_data_and_a_preview(tmp_path: Path) -> None:
    words = ["world", "make", "d.parquet", "--source", "world2:looks,search:traces?stage=coldstart", "--size", "3"]
    for _ in range(2):
        finished = run_command(*words, "--preview", "d.png", cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
    with Image.open(tmp_path / "d.png") as sheet:
        assert sheet.info["seethink"] == "preview"
        assert np.asarray(sheet.convert("L")).std() > 20
    Image.new("RGB", (4, 4)).save(tmp_path / "mine.png")
    refused = run_command(*words, "--preview", "mine.png", cwd=tmp_path)
    assert refused.returncode == 2
    assert "is not a preview of `seethink world make`" in refused.stderr


def test_floors_are_measured_by_a_command(tmp_path: Path) -> None:
    words = ["world", "floors", "--domains", "dice", "--size", "16", "--out", "floors.json"]
    finished = run_command(*words, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "nearest picture" in finished.stdout
    stored = json.loads((tmp_path / "floors.json").read_text())
    assert [(row["domain"], row["form"], row["n"]) for row in stored["floors"]] == [
        ("dice", "fill-in", 8),
        ("dice", "choice", 8),
    ]
    assert stored["floors"][0]["chance"] is None
    assert run_command("world", "floors", "--domains", "dise", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("domain", ["search", "chains_dusk"])
def test_without_sight_a_model_is_at_chance(domain: str) -> None:
    fill, choice = floors(domain, 64)
    for mean, error in (choice.prior, choice.words, choice.nearest):
        assert mean <= choice.chance + 3 * max(error, 0.06)
    assert max(fill.prior[0], fill.words[0], fill.nearest[0]) <= 0.35


@pytest.mark.slow
def test_without_sight_a_model_is_at_chance_in_every_domain() -> None:
    for domain in DOMAINS:
        fill, choice = floors(domain, 128)
        for mean, error in (choice.prior, choice.words, choice.nearest):
            assert mean <= choice.chance + 3.5 * max(error, 0.05), (domain, choice)
        assert max(fill.prior[0], fill.words[0], fill.nearest[0]) <= 0.45, (domain, fill)


def test_a_leak_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same floors on options whose right one is always the first: far above chance."""
    from seethink.world.v2 import items

    monkeypatch.setattr(items.Draws, "shuffled", lambda self, options: list(options))
    (_, choice) = floors("chains", 32)
    assert choice.prior[0] == choice.words[0] == 1


@pytest.mark.slow
def test_the_right_option_has_no_place_and_no_rank() -> None:
    """Chi-square tests over items with four options, at 0.1 % with 3 degrees of freedom."""
    for group in ("core", "cold", "tuning", "held"):
        made = [item for domain in GROUPS[group] for item in draw(domain, "base", "train", 320, 5)]
        made = [item for item in made if len(item.choices) == 4]
        places = Counter(item.choices.index(item.problem.answer) for item in made)
        numbers = [item for item in made if item.problem.answer.isdigit()]
        ranks = Counter(sorted(map(int, item.choices)).index(int(item.problem.answer)) for item in numbers)
        for counts, total in ((places, len(made)), (ranks, len(numbers))):
            if total:
                assert sum((counts[i] - total / 4) ** 2 / (total / 4) for i in range(4)) < 16.3, (group, counts)


def test_half_are_multiple_choice_at_every_level() -> None:
    made = world_samples("world2:core", "test", 4 * len(LEVELS) * 2, 1)
    counts = Counter((s.difficulty, bool(s.choices)) for s in made)
    assert set(counts.values()) == {4}
