"""`world:zoom`: a wall of pictures whose part in question is one of the first world's pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest

from seethink.core.errors import UserError
from seethink.core.types import Sample
from seethink.environments.calls import turns_of
from seethink.environments.zoom import Zoom
from seethink.world.draw import SIZE
from seethink.world.make import one_domain, world_samples
from seethink.world.wall import OTHERS, SIDE, box_of


def cells(sample: Sample) -> np.ndarray:
    """[row, column, y, x, colour]"""
    (wall,) = sample.pictures()
    return np.asarray(wall).reshape(SIDE, SIZE, SIDE, SIZE, 3).swapaxes(1, 2)


def test_a_trace_looks_at_the_part_in_question() -> None:
    for sample in world_samples("world:zoom:traces", "train", 6, 0):
        call, final = turns_of(sample.response or "")
        tool = Zoom()
        tool.reset(sample)
        step = tool.step(call)
        assert not step.failed
        assert final.startswith("<think>")
        row, column = (int(n) - 1 for n in re.match(r"Row (\d), column (\d): ", sample.question).groups())  # type: ignore[union-attr]
        assert str(box_of(row, column)) in call
        (shown,) = step.images
        assert shown.size == (SIDE * SIZE, SIDE * SIZE)
        small = np.asarray(shown.resize((SIZE, SIZE)), dtype=float)
        assert np.abs(small - cells(sample)[row, column]).mean() < 8


def test_of_traces_that_leap_the_call_alone_is_gone() -> None:
    whole = world_samples("world:zoom:traces", "train", 60, 0)
    leaping = world_samples("world:zoom:traces?leaps=0.5", "train", 60, 0)
    short = [(a.response or "", b.response or "") for a, b in zip(whole, leaping, strict=True) if a != b]
    assert 20 < len(short) < 40
    assert all(turns_of(whole)[-1] == leap for whole, leap in short)
    assert world_samples("world:zoom:traces?leaps=0", "train", 60, 0) == whole
    assert world_samples("world:zoom:traces?leaps=0.5", "train", 60, 0) == leaping


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("world:zoom?leaps=0.5", "leaps are of traces; add ':traces'"),
        ("world:math:traces?leaps=0.5", "leaps are of world:zoom:traces"),
        ("world:zoom:traces?leaps=2", "leaps='2': give a share from 0 to 1"),
        ("world:zoom:traces?leap=0.5", "leaps is another"),
    ],
)
def test_leaps_that_cannot_be_are_refused(source: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        world_samples(source, "train", 1, 0)


def test_evaluation_asks_without_what_is_of_traces() -> None:
    assert one_domain("world:zoom:traces?leaps=0.5&image=blank", "zoom") == "world:zoom?image=blank"
    assert one_domain("world:zoom:traces?leaps=0.5", "zoom") == "world:zoom"


def test_a_wall_has_so_many_pictures_and_no_two_alike() -> None:
    walls = world_samples("world:zoom", "val", 4, 0)
    for sample in walls:
        assert int((cells(sample).std((2, 3)).max(-1) > 0).sum()) == 1 + OTHERS
        assert sample.response is None
    assert len({sample.images[0].tobytes() for sample in walls}) == 4  # type: ignore[union-attr]
    assert world_samples("world:zoom", "val", 4, 0) == walls
    assert [s.question for s in world_samples("world:zoom:traces", "val", 4, 0)] == [s.question for s in walls]


def test_the_groups_of_domains_are_as_before() -> None:
    assert "zoom" not in {sample.domain for sample in world_samples("world:all", "val", 12, 0)}
    with pytest.raises(UserError, match=r"choose from .*zoom"):
        world_samples("world:wall", "val", 1, 0)
