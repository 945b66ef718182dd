"""The second world's items: the same from a key, right by a reader of their own, and shared by no two stages."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethink.core.errors import UserError
from seethink.core.types import Sample, Verdict
from seethink.rewards.grader import grade_batch
from seethink.world.digits import SPLITS, _pool
from seethink.world.questions import LETTERS
from seethink.world.v2 import forms, masks
from seethink.world.v2.canvas import CELL, SIZE, palette
from seethink.world.v2.domains import DOMAINS, FAMILIES, GROUPS
from seethink.world.v2.draws import Draws
from seethink.world.v2.items import SHARES, STAGES, Item, Key, item_of, make_item, owner
from seethink.world.v2.overlap import overlaps
from seethink.world.v2.place import COUNTED, elsewhere
from seethink.world.v2.reader import see, see_caption, solve
from seethink.world.v2.scene import LEVELS
from seethink.world.v2.source import FORMS, samples, to_sample
from seethink.world.v2.words import SPECIAL, THINK, build_tokenizer_core, vocabulary

keys = st.builds(
    Key,
    st.integers(0, 2**31),
    st.sampled_from(STAGES),
    st.just("train"),
    st.sampled_from(list(DOMAINS)),
    st.sampled_from(LEVELS),
    st.integers(0, 10**6),
)


@cache
def drawn(domain: str, count: int = 4) -> tuple[Item, ...]:
    """`count` items of each level, half of them multiple choice."""
    return tuple(make_item(Key(7, "base", "train", domain, level, i)) for level in LEVELS for i in range(count))


def everything() -> Iterator[Item]:
    for domain in DOMAINS:
        yield from drawn(domain)


@settings(max_examples=25, deadline=None)
@given(keys)
def test_a_key_fixes_every_byte(key: Key) -> None:
    one, two = make_item(key), item_of(key.id)
    assert one.image.tobytes() == two.image.tobytes()
    assert (one.prompt, one.answers, one.trace, one.content) == (two.prompt, two.answers, two.trace, two.content)
    assert owner(one.content) == (key.stage, key.split)


def test_an_item_is_the_same_on_every_machine() -> None:
    item = make_item(Key(0, "rl", "train", "looks_dusk", 2, 0))
    assert item.prompt == "What is the pink value minus the teal value?"
    assert sha256(item.trace.encode()).hexdigest().startswith("8c7d4c23cb5e3e05"), item.trace
    assert item.content == "9b47e394b9d5f573"


@pytest.mark.parametrize("id", ["", "search", "search-2-rl-train-0-x", "search-2-rl-train-0-0-0"])
def test_an_id_of_another_form_is_refused(id: str) -> None:
    with pytest.raises(UserError, match="is no item of this world"):
        item_of(id)


def test_what_a_key_may_name() -> None:
    with pytest.raises(UserError, match="the world has the levels 1, 2, 3, 4, 5, 6, 7, 8, not 9"):
        item_of("search-9-rl-train-0-0")
    with pytest.raises(UserError, match="the world has the stages base, coldstart, rl, tuning, eval, not 'sft'"):
        item_of("search-1-sft-train-0-0")


def test_an_item_does_not_depend_on_what_is_asked_for_beside_it() -> None:
    among = {s.id: s for s in samples("world2:rl:traces?stage=rl", "train", 64, 3)}
    alone = samples("world2:chains_dusk:traces?stage=rl&levels=2-3", "train", 4, 3)
    assert {s.id for s in alone} <= set(among)
    assert all(s.images[0].tobytes() == among[s.id].images[0].tobytes() for s in alone)
    assert all((s.question, s.response) == (among[s.id].question, among[s.id].response) for s in alone)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_perfect_reader_is_always_right(domain: str) -> None:
    """By the picture's record and by its caption, graded as models are graded."""
    assert_all_right(drawn(domain))


@pytest.mark.slow
def test_a_perfect_reader_is_right_on_thousands() -> None:
    for domain in DOMAINS:
        assert_all_right(drawn(domain, 16))


def assert_all_right(items: tuple[Item, ...]) -> None:
    pairs: list[tuple[Sample, str]] = []
    for item in items:
        things, question = item.problem.things, item.problem.question
        seen = see(things)
        read = solve(see_caption(forms.caption(things)), question, item.choices)
        for text in (solve(seen, question, item.choices), read):
            pairs.append((to_sample(item), f"<think>{text}.</think>{forms.direct(text)}"))
        for form in ("traces", "answers", "worked"):
            sample = to_sample(item, form)
            pairs.append((sample, str(sample.response)))
        for probe in forms.probes(item):
            assert solve(seen, probe.question) == probe.answer
    grades = grade_batch([(text, s.answer, s.answer_type, s.choices or None, s.question) for s, text in pairs])
    wrong = [(pair[0].id, pair[1], grade) for pair, grade in zip(pairs, grades, strict=True) if grade.accuracy != 1]
    assert not wrong, wrong[:3]


def test_a_wrong_answer_is_graded_wrong() -> None:
    items = [item for item in everything() if item.choices]
    wrong = [next(letter for letter in LETTERS[: len(item.choices)] if letter != item.answer) for item in items]
    rows = [(forms.direct(w), i.answer, None, i.choices, i.prompt) for w, i in zip(wrong, items, strict=True)]
    assert {grade.verdict for grade in grade_batch(rows)} == {Verdict.WRONG}


def test_stages_share_nothing() -> None:
    sizes = {("base", "train"): 200, ("coldstart", "train"): 150, ("rl", "train"): 100, ("tuning", "train"): 100}
    assert_disjoint(sizes | {("coldstart", "val"): 10, ("eval", "test"): 100}, seed=0)


@pytest.mark.slow
def test_the_stages_of_a_quickstart_share_nothing() -> None:
    sizes = {("coldstart", "train"): 6000, ("rl", "train"): 4000, ("tuning", "train"): 2400, ("eval", "test"): 1500}
    assert_disjoint(sizes | {("base", "train"): 3000, ("coldstart", "val"): 100, ("tuning", "val"): 100}, seed=1)


@pytest.mark.slow
def test_the_stages_of_a_lab_share_nothing() -> None:
    """Two seeds of each stage, against the evaluation items of a third and the base model's."""
    sizes = {("coldstart", "train"): 2000, ("rl", "train"): 1500, ("tuning", "train"): 1000}
    draws = {
        f"{stage} {seed}": list(draw(stage, split, n, seed)) for (stage, split), n in sizes.items() for seed in (0, 1)
    }
    draws |= {"eval": list(draw("eval", "test", 1000, 9)), "base": list(draw("base", "train", 3000, 0))}
    shared = overlaps(draws)
    assert all(n == 0 for (a, b), n in shared.items() if a.split()[0] != b.split()[0]), shared


STAGE_DOMAINS = {"base": "all", "coldstart": "cold", "rl": "rl", "tuning": "tuning", "eval": "all"}


def draw(stage: str, split: str, count: int, seed: int) -> Iterator[Item]:
    domains = GROUPS[STAGE_DOMAINS[stage]]
    for i in range(count):
        turn, at = divmod(i, len(domains))
        number, level = divmod(turn, len(LEVELS))
        yield make_item(Key(seed, stage, split, domains[at], LEVELS[level], number))  # type: ignore[arg-type]


def assert_disjoint(sizes: dict[tuple[str, str], int], seed: int) -> None:
    draws = {f"{stage} {split}": list(draw(stage, split, n, seed)) for (stage, split), n in sizes.items()}
    shared = overlaps(draws)
    assert all(n == 0 for (a, b), n in shared.items() if a != b), shared
    assert all(shared[name, name] <= 0.02 * len(items) for name, items in draws.items()), "scenes are repeated"


@pytest.mark.parametrize("domain", DOMAINS)
def test_things_elsewhere_stay_in_order(domain: str) -> None:
    """Places are drawn anew until the stage owns them: reading order, neighbours and the number of cells stay."""
    draws = Draws("elsewhere", domain)
    for item in drawn(domain):
        things = item.problem.things
        cells = elsewhere(things, draws)
        assert [len(own) for own in cells] == [len(thing.cells) for thing in things]
        flat = [cell for own in cells for cell in own]
        assert len(set(flat) & set(range(16))) == len(flat)
        places, before = [own[0] for own in cells], [thing.cells[0] for thing in things]
        if things[0].show not in COUNTED:
            assert np.argsort(places).tolist() == np.argsort(before).tolist()
        if things[0].arrow:
            assert np.diff(places).tolist() == np.diff(before).tolist()


def test_overlaps_are_counted() -> None:
    some, others = list(drawn("dice")[:10]), list(drawn("dice")[5:15])
    counts = overlaps({"a": [*some, some[0]], "b": others, "c": [to_sample(item) for item in others]})
    assert counts["a", "a"] == 1
    assert counts["a", "b"] == counts["a", "c"] == 5
    assert counts["b", "c"] == 10


def test_the_first_world_is_told_apart_by_pixels() -> None:
    from seethink.world.make import world_samples

    twice = {name: world_samples("world:dice", "train", 6, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))}
    counts = overlaps(twice)
    assert (counts["a", "b"], counts["a", "c"]) == (6, 0)


def test_ownership_is_shared_out_as_declared() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert set(SHARES) == {(stage, split) for stage in STAGES for split in SPLITS}
    draws = Draws("owners")
    owners = [owner(f"{draws.below(2**62) * 4:016x}") for _ in range(4000)]
    assert owners.count(("base", "train")) / 4000 == pytest.approx(0.33, abs=0.03)
    assert owners.count(("eval", "test")) / 4000 == pytest.approx(0.17, abs=0.02)


def test_splits_share_no_handwritten_digit() -> None:
    for split in SPLITS:
        for value in range(10):
            ink = {masks._pool(split)[0][place].tobytes() for place in masks.digit_places(split, value)}
            assert ink == {(own * 16).astype(np.uint8).tobytes() for own in _pool(split)[value]}


def test_only_the_stages_domains_are_new_to_each() -> None:
    cold, rl, tuning = (set(GROUPS[name]) for name in ("cold", "rl", "tuning"))
    assert not cold & rl
    assert not (cold | rl) & tuning
    assert not (cold | rl | tuning) & {*GROUPS["held"], *GROUPS["captions"]}
    assert {DOMAINS[name].palette for name in rl} == {"dusk"}
    assert {DOMAINS[name].palette for name in DOMAINS if name not in rl} == {"day"}
    assert {family for domain in DOMAINS.values() for family in domain.families} == set(FAMILIES)


def test_lengths_grow_with_the_level() -> None:
    """From 15 to 150 tokens with the end of the turn."""
    core = build_tokenizer_core()
    for domain in DOMAINS:
        lengths = [len(core.encode(item.trace).ids) + 1 for item in drawn(domain)]
        assert min(lengths) >= 15, domain
        assert max(lengths) <= 150, domain
        means = np.array(lengths).reshape(len(LEVELS), -1).mean(axis=1)
        top = DOMAINS[domain].most
        assert means[min(top, 8) - 1] > means[0] * 1.8, (domain, means)
        assert np.corrcoef(means[:top], LEVELS[:top])[0, 1] > 0.85, (domain, means)


def test_every_text_is_made_of_whole_words() -> None:
    core = build_tokenizer_core()
    whole = {core.encode(text).ids[0] for text in vocabulary()} | {core.token_to_id(t) for t in (*SPECIAL, *THINK)}
    assert core.get_vocab_size() < 480
    for domain in DOMAINS:
        for item in drawn(domain)[::3]:
            texts = [forms.DESCRIBE, item.prompt, item.trace, forms.text_question(item), forms.worked(item)]
            texts += [text for probe in forms.probes(item) for text in (probe.question, forms.direct(probe.answer))]
            for text in texts:
                encoded = core.encode(text)
                assert set(encoded.ids) <= whole, [
                    t for i, t in zip(encoded.ids, encoded.tokens, strict=True) if i not in whole
                ]


@settings(max_examples=60, deadline=None)
@given(st.text("abzAZ019 +-=<>?.,\n\t'éß中文😀\u200d", max_size=60))
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    core = tokenizer()
    assert core.decode(core.encode(text).ids, skip_special_tokens=False) == text


@cache
def tokenizer() -> object:
    return build_tokenizer_core()


def test_pictures_are_as_they_should_be() -> None:
    for item in everything():
        picture = item.image
        assert (picture.size, picture.mode) == ((SIZE, SIZE), "RGB")


@pytest.mark.parametrize("domain", ["bars", "tables"])
def test_a_chart_shows_its_values(domain: str) -> None:
    """Measured in pixels: a bar's height, and a point's height above the base."""
    for item in drawn(domain):
        picture = np.asarray(item.image, dtype=int)
        for thing in item.problem.things:
            color = palette("day").color(thing.name)
            left = 14 * thing.cells[0]
            near = np.abs(picture[:, left : left + 14] - color).max(axis=-1) < 45
            rows = np.flatnonzero(near.sum(axis=1) >= 4)
            expected = 11 * thing.value
            found = len(rows) if domain == "bars" else 108 - rows.mean()
            assert found == pytest.approx(expected, abs=2.5), (item.key.id, thing)


@pytest.mark.parametrize("domain", ["dice", "sums_dusk", "clocks", "roman", "chains", "looks"])
def test_a_probe_says_where_its_thing_stands(domain: str) -> None:
    """The named colour is nearer there than anywhere without a thing of that colour."""
    for item in drawn(domain)[::4]:
        picture = np.asarray(item.image, dtype=float)
        for probe in forms.probes(item):
            x, y = (int(v * SIZE - CELL / 2) for v in probe.place)
            own = picture[y : y + CELL, x : x + CELL]
            color = palette(DOMAINS[domain].palette).color(probe.name)
            assert (np.abs(own - color).max(axis=-1) < 60).sum() >= 8, (item.key.id, probe)


def test_turns_about_a_picture() -> None:
    item = drawn("looks")[5]
    (question, caption), (asked, answer), *probes = forms.turns(item)
    assert (question, asked, answer) == (forms.DESCRIBE, item.prompt, forms.direct(item.answer))
    assert see_caption(caption).values == see(item.problem.things).values
    assert len(probes) == len(item.problem.things)


def test_forms_of_a_sample() -> None:
    for form in FORMS:
        (sample,) = samples(f"world2:looks:{form}?stage=base&levels=4", "train", 1, 0)
        assert bool(sample.images) == (form not in ("text", "worked"))
        assert sample.response
        assert sample.difficulty == "4"
    assert sample.meta["task"] == "looks/sum"


def test_levels_domains_and_forms_take_turns() -> None:
    made = samples("world2:cold?stage=coldstart&levels=2-3", "train", 64, 0)
    assert {(s.domain, s.difficulty) for s in made} == {(d, level) for d in GROUPS["cold"] for level in "23"}
    assert len({s.id for s in made}) == 64
    assert sum(bool(s.choices) for s in made) == 32
