"""Work in a thread beside a loop: what it takes, what it leaves, and how its errors come out."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from seethink.core.aside import Aside


def test_what_is_added_is_worked_on_in_order_and_the_rest_is_left() -> None:
    done: list[Any] = []
    begun, go_on = threading.Event(), threading.Event()

    def work(found: list[int]) -> None:
        begun.set()
        assert go_on.wait(10)
        done.extend(found)

    with Aside(work, most=3) as aside:
        aside.add([1])
        assert begun.wait(10)
        aside.add([2, 3])
        aside.add([4, 5, 6])
        go_on.set()
    assert done == [1]

    for _ in range(50):  # however short the block is
        with Aside(done.append) as short:
            short.add([7])
    assert done == [1] + 50 * [[7]]

    done = []
    with Aside(done.extend, most=3) as aside:
        aside.add(list(range(10)))
        while len(done) < 3:
            time.sleep(0.001)
    assert done == [0, 1, 2]


def test_it_takes_a_fiftieth_of_a_processor() -> None:
    worked = 0.0

    def work(found: list[int]) -> None:
        nonlocal worked
        before = time.thread_time()
        while time.thread_time() - before < 0.005:
            pass
        worked += time.thread_time() - before

    with Aside(work) as aside:
        start = time.monotonic()
        while time.monotonic() - start < 0.4:
            aside.add([1])
            time.sleep(0.002)
    assert 0 < worked < 0.06 * 0.4 + 0.006  # one turn more


def test_errors_come_out_in_the_loop_and_at_its_end() -> None:
    def work(found: list[int]) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"), Aside(work) as aside:
        aside.add([1])

    def add_for_ever() -> None:
        with Aside(work) as aside:
            while True:
                aside.add([1])

    with pytest.raises(OSError, match="no space"):
        add_for_ever()


def test_an_error_in_the_loop_does_not_wait_for_the_work() -> None:
    go_on = threading.Event()
    start = time.monotonic()

    def stopped() -> None:
        with Aside(lambda found: go_on.wait(20)) as aside:
            aside.add([1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert time.monotonic() - start < 5
    go_on.set()
