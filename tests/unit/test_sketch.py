"""Sketches add up, survive JSON, and their quantiles are as near as they say."""

from __future__ import annotations

import json
import math
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seethink.core.sketch import EDGES, MOST, WIDTH, Sketch, bins_of

ENTROPIES = st.lists(st.floats(0, 15.9, allow_subnormal=False), max_size=60)
FILLED = st.lists(st.floats(0, 15.9, allow_subnormal=False), min_size=1, max_size=60)


def same(a: Sketch, b: Sketch) -> None:
    assert a.counts.tolist() == b.counts.tolist()
    assert (a.low, a.high) == (b.low, b.high)
    assert a.total == pytest.approx(b.total, rel=1e-12, abs=1e-12)


def test_by_hand() -> None:
    sketch = Sketch.of([0.0, 0.5, 1.0, 2.5])
    assert (sketch.count, sketch.mean, sketch.low, sketch.high) == (4, 1.0, 0.0, 2.5)
    empty = Sketch.of([])
    assert empty.count == 0
    assert all(math.isnan(value) for value in (empty.mean, empty.quantile(0.5)))


def test_edges() -> None:
    assert EDGES[0] == 0
    assert np.all(np.diff(EDGES) > 0)
    assert np.diff(EDGES[:-1]).max() <= WIDTH
    assert EDGES[-2] == MOST
    assert bins_of(np.array([-1e-7, 0.0, 17.0, math.inf])).tolist() == [0, 0, len(EDGES) - 2, len(EDGES) - 2]
    for edge in EDGES[:-1]:
        assert EDGES[bins_of(np.array([edge]))[0]] == edge, "an edge begins its bin"


@given(st.lists(ENTROPIES, min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_merging_is_the_sketch_of_everything_in_any_order(parts: list[list[float]]) -> None:
    whole = Sketch.of([value for part in parts for value in part])
    sketches = [Sketch.of(part) for part in parts]
    same(reduce(add, sketches), whole)
    same(reduce(lambda a, b: b + a, sketches), whole)
    same(sketches[0] + reduce(add, sketches[1:], Sketch.of([])), whole)


@given(FILLED, st.floats(0.01, 1.0))
@settings(max_examples=200, deadline=None)
def test_quantiles_are_within_their_bin(values: list[float], share: float) -> None:
    exact = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    found = Sketch.of(values).quantile(share)
    bound = EDGES[bins_of(np.array([exact]))[0] + 1] - EDGES[bins_of(np.array([exact]))[0]]
    assert abs(found - exact) <= bound
    assert bound <= max(WIDTH if exact >= 1 / 8 else 0.2 * exact, 1 / 1024)


@given(ENTROPIES)
@settings(max_examples=60, deadline=None)
def test_json_keeps_every_bit(values: list[float]) -> None:
    sketch = Sketch.of(values)
    again = Sketch.from_json(json.loads(json.dumps(sketch.as_json(), allow_nan=False)))
    assert again.counts.tolist() == sketch.counts.tolist()
    assert (again.total, again.low, again.high) == (sketch.total, sketch.low, sketch.high)


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"bins": [0], "counts": []},
        {"bins": [99_999], "counts": [1], "sum": 0, "min": 0, "max": 0},
        {"bins": [-1], "counts": [1], "sum": 0, "min": 0, "max": 0},
        {"bins": [0], "counts": [1], "sum": None, "min": 0, "max": 0},
        {"bins": [0], "counts": [10**30], "sum": 0, "min": 0, "max": 0},
    ],
)
def test_other_tables_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a histogram of entropies"):
        Sketch.from_json(table)
