"""Mixtures: what is drawn of each source and when, from the seed and a counter alone; and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.rows import png, row, write_jsonl, write_parquet
from seethink.config import DataConfig, RecipeError, make_recipe, saved_recipe
from seethink.core.types import Sample
from seethink.data.draws import Draws
from seethink.data.mixture import Weights, in_proportion, load_training, source_of, tally
from seethink.data.order import fingerprint, shuffled
from seethink.data.quarantine import DataError, Quarantine
from seethink.rewards.golds import read_gold


def samples(**counts: int) -> list[Sample]:
    """So many samples of each source; every second one is of the domain `odd`."""
    return [
        Sample(f"{name}{i}", "Q?", meta={"source": name}, domain=("even", "odd")[i % 2])
        for name, count in counts.items()
        for i in range(count)
    ]


def data(*sources: dict[str, object], **more: object) -> DataConfig:
    return DataConfig.model_validate({"mixture": list(sources), **more})


def load(config: DataConfig) -> list[Sample]:
    return load_training(config, 0, None, Quarantine(), golds=read_gold)


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_without_weights_the_order_is_the_one_of_before(epoch: int) -> None:
    found = [Sample(str(i), "Q?", domain=str(i % 3)) for i in range(50)]
    assert Weights().draws(found, 7).epoch(epoch) == shuffled(50, 7, epoch)


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    shares=st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
    seed=st.integers(0, 3),
    start=st.integers(0, 60),
)
def test_any_place_is_found_from_the_counter_alone(
    counts: list[int], shares: list[float], seed: int, start: int
) -> None:
    ends = [sum(counts[: i + 1]) for i in range(len(counts))]
    pools = [list(range(end - count, end)) for end, count in zip(ends, counts, strict=True)]
    shares = shares[: len(pools)]
    whole = Draws(pools, shares, seed).take(0, 100)
    assert Draws(pools, shares, seed).take(start, 40) == whole[start : start + 40]
    assert Draws(pools, shares, seed).epoch(1) == whole[ends[-1] :][: ends[-1]]
    for pool, share in zip(pools, shares, strict=True):
        drawn = [place for place in whole if place in pool]
        for number in range(len(drawn) // len(pool)):  # whole passes: each place once
            assert sorted(drawn[number * len(pool) :][: len(pool)]) == pool
        epochs = 100 // ends[-1]
        count = sum(place in pool for place in whole[: epochs * ends[-1]])
        assert abs(count - epochs * ends[-1] * share / sum(shares)) <= epochs + 1


def test_shares_hold_in_an_epoch_and_small_ones_over_the_epochs() -> None:
    found = samples(large=900, small=100, tiny=1)
    weights = Weights({"large": 1.0, "small": 1.0, "tiny": 0.0005})
    draws = weights.draws(found, 0)
    drawn = [Counter(source_of(found[i]) for i in draws.epoch(e)) for e in range(40)]
    assert all(abs(c["large"] - 500) <= 2 and abs(c["small"] - 500) <= 2 and c["tiny"] <= 1 for c in drawn)
    assert sum(c["tiny"] for c in drawn) in (9, 10, 11)
    first = Counter(draws.epoch(0))
    assert {first[i] for i in range(900)} == {0, 1}  # a part of the large one's first pass
    assert {first[i] for i in range(900, 1000)} <= {4, 5, 6}  # five passes of the small one
    half = Counter(source_of(found[i]) for i in draws.epoch(0)[:200])
    assert 70 < half["small"] < 130


def test_weights_of_domains_divide_a_sources_share() -> None:
    found = samples(a=300, b=100)
    draws = Weights({"a": 1.0, "b": 1.0}, {"odd": 3.0}).draws(found, 0)
    drawn = Counter((source_of(found[i]), found[i].domain) for i in draws.take(0, 400))
    assert drawn == {("a", "odd"): 150, ("a", "even"): 50, ("b", "odd"): 150, ("b", "even"): 50}
    single = [Sample(str(i), "Q?", domain=("even", "odd")[i % 2]) for i in range(100)]
    alone = Counter(single[i].domain for i in Weights({}, {"odd": 3.0}).draws(single, 0).epoch(0))
    assert alone == {"odd": 75, "even": 25}


def test_what_is_drawn_is_said_and_counted() -> None:
    weights = Weights({"a": 3.0, "b": 1.0, "c": 1.0}, {"odd": 1.0})
    assert weights.lines(tally(samples(a=30, b=10))) == [
        "source a: 30 rows, weight 3: 75.0% of the draws, 1.00 per row and epoch",
        "source b: 10 rows, weight 1: 25.0% of the draws, 1.00 per row and epoch",
        "source c: 0 rows, weight 1: none",
        "domain odd: 20 rows, weight 1: 50.0% of the draws, 1.00 per row and epoch",
    ]
    assert weights.counted(samples(a=2, c=1)) == {"data/a": 2.0, "data/b": 0.0, "data/c": 1.0}
    assert Weights().counted(samples(a=2)) == {}
    assert Weights().lines(tally(samples(a=2))) == []


def test_every_beginning_has_a_like_share_of_each_source() -> None:
    order = in_proportion([40, 20, 1])
    assert sorted(order) == [(s, p) for s, n in enumerate((40, 20, 1)) for p in range(n)]
    assert Counter(s for s, _ in order[:6]) == {0: 4, 1: 2}
    assert [p for s, p in order if s == 1] == list(range(20))


def test_the_rows_of_each_source_are_read_in_its_own_way(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [row(id="1", prompt=f"A{i}?") for i in range(4)])
    write_jsonl(tmp_path / "b.jsonl", [{"problem": "B?", "solution": "<answer>2</answer>", "domain": "own"}] * 2)
    found = load(
        data(
            {"source": str(tmp_path / "a.jsonl"), "domain": "sums"},
            {"source": str(tmp_path / "b.jsonl"), "name": "other", "style": "easyr1"},
            {"source": "world:math:traces", "size": 2},
        )
    )
    assert Counter(map(source_of, found)) == {"a": 4, "other": 2, "math": 2}
    by_source = {source_of(sample): sample for sample in found}
    assert (by_source["a"].id, by_source["a"].domain) == ("a/1", "sums")
    assert (by_source["other"].id, by_source["other"].domain, by_source["other"].answer) == ("other/b-2", "own", "2")
    assert by_source["math"].response is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, r"'data\.train' is required"),
        ({"train": "mixture"}, r"needs \[\[data\.mixture\]\], its sources"),
        ({"train": "a", "mixture": [{"source": "b"}]}, "give one of the two"),
        ({"mixture": [{"source": "x/a.json"}, {"source": "a.jsonl"}]}, "two sources are called 'a'"),
        ({"mixture": [{"source": "a", "wieght": 1}]}, r"unknown key 'data\.mixture\.0\.wieght'; did you mean"),
        ({"mixture": [{"source": "a", "weight": 0}]}, r"data\.mixture\.0\.weight: .* greater than 0"),
        ({"mixture": [{"source": "a", "weight": -1}]}, r"data\.mixture\.0\.weight: .* greater than 0"),
        ({"mixture": [{"source": "a", "name": "../x"}]}, r"data\.mixture\.0\.name: "),
        ({"mixture": [{"weight": 1}]}, r"'data\.mixture\.0\.source' is required"),
        ({"mixture": [{"source": "a"}], "train_size": 3}, "give each source its own size"),
        ({"train": "a", "domain_weights": {"x": 0}}, "'x' has 0; give more than 0"),
    ],
)
def test_a_wrong_mixture_is_refused_in_one_line(change: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as error:
        make_recipe({"name": "x", "stage": "sft", "out": "r", "data": change})
    assert "\n" not in str(error.value)


def test_empty_sources_and_unknown_domains_are_named(tmp_path: Path) -> None:
    good = write_jsonl(tmp_path / "good.jsonl", [row(domain="sums")])
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"data\.mixture, 'empty': .*empty\.jsonl has no rows"):
        load(data({"source": str(good)}, {"source": str(tmp_path / "empty.jsonl")}))
    with pytest.raises(DataError, match=r"data\.mixture, 'math': .*give a size .*\[\[data\.mixture\]\]"):
        load(data({"source": "world:math"}))
    with pytest.raises(DataError, match=r"no row has the domain 'geometry'; there are 'sums'"):
        load(DataConfig(train=str(good), domain_weights={"geometry": 2.0}))


def test_a_mixture_is_stored_with_the_run_and_read_back() -> None:
    table = {"name": "x", "stage": "sft", "out": "r", "data": {"mixture": [{"source": "a.jsonl", "weight": 2}]}}
    recipe = make_recipe(table)
    assert recipe.data.sources == ("a.jsonl",)
    assert saved_recipe(recipe.as_table()) == recipe
    assert make_recipe({**table, "data": {}}, ["data.mixture=[{source='a.jsonl', weight=2}]"]) == recipe


def test_memory_for_images_is_shared_by_the_sources_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEETHINK_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b"):
        rows = [row(images=[{"bytes": png(10 * n + (name == "b")), "path": None}]) for n in range(4)]
        write_parquet(tmp_path / f"{name}.parquet", rows)
    config = data(*({"source": str(tmp_path / f"{name}.parquet")} for name in ("a", "b")), memory_mb=16)
    assert (config.encoded_bytes, config.processed_bytes) == (4 << 20, 8 << 20)
    whole = load(config)
    monkeypatch.setattr(DataConfig, "encoded_bytes", 3 * len(png()))
    found = load(config)
    kinds = Counter(type(sample.images[0].data).__name__ for sample in found)  # type: ignore[union-attr]
    assert kinds == {"bytes": 3, "Slice": 5}
    assert [s.pictures()[0].tobytes() for s in found] == [s.pictures()[0].tobytes() for s in whole]
    assert fingerprint(found) == fingerprint(whole)


def test_domains_count_as_content_where_they_have_weights() -> None:
    one, other = samples(a=1), [replace(samples(a=1)[0], domain="odd")]
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one, domains=True) != fingerprint(other, domains=True)
