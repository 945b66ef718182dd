"""Hostile answers and dying workers: the grader goes on, on time, and runs nothing that a model wrote."""

import asyncio
import builtins
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seethink.core.types import Verdict
from seethink.rewards.format import has_think_format
from seethink.rewards.grader import grade, grade_batch, pool, worker
from seethink.rewards.grader.parse import parse
from seethink.rewards.grader.pool import Pool, get_pool
from seethink.rewards.grader.symbolic import tree
from seethink.rewards.grader.syntax import NotMathsError

SYMBOLIC = ("\\boxed{\\sum_{k=1}^{n} k}", "\\frac{n(n+1)}{2}", None, None)
ENDLESS = "\\boxed{\\sum_{k=1}^{1000000007} \\sqrt{k+%d}}"


def timed(function: Callable[[], object]) -> tuple[object, float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


@pytest.mark.parametrize(
    "answer",
    [
        "9**9**9**9",  # 1
        "99999999!",  # 2
        "2^{2^{2^{2^{2^{2^{2}}}}}}",  # 3
        "((10^{10})^{10})^{10^{10}}",
        "1e999999999",
        "\\sin(10^{10^{5}})",
        "e^{e^{e^{e^{10}}}}",
        "+".join(f"2^{{{i}}}" for i in range(800)),  # 4
        "\\frac{1}{" * 90 + "2" + "}" * 90,
        "(" * 2000 + "1" + ")" * 2000,
        "1" * 100_000,
        "x\\pm" * 500 + "x",
    ],
)
def test_huge_answers_are_wrong_on_time(answer: str) -> None:
    found, seconds = timed(lambda: grade(f"\\boxed{{{answer}}}", "1/3"))
    assert found.verdict is Verdict.WRONG  # type: ignore[attr-defined]
    assert seconds < 1


def test_format_of_a_degenerate_tail() -> None:  # 5
    found, seconds = timed(lambda: has_think_format("</think>\\boxed{" * 3200))
    assert found is False
    assert seconds < 0.05


@pytest.mark.parametrize(
    "character", [" ", "(", "9", "{", "\\boxed{", "\n", "\\", "$", "answer is ", "<answer>", "A "]
)  # 6
def test_a_megabyte_of_nothing(character: str) -> None:
    text = character * (10**6 // len(character))
    found, seconds = timed(lambda: grade(text, "1/3"))
    assert found.verdict in (Verdict.NO_ANSWER, Verdict.WRONG)  # type: ignore[attr-defined]
    assert seconds < 0.5  # 0.1 where nothing else runs


PAYLOADS = [
    "().__class__.__base__.__subclasses__()",
    "__import__('os').system('touch {path}')",
    "\\_\\_import\\_\\_('os').system('touch {path}')",
    'eval(\'open("{path}", "w")\')',
    "lambda: exec('x=1')",
    "sum(open('{path}','w').write(c) for c in 'a')",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_in_an_answer_is_run(payload: str, tmp_path: Path) -> None:  # 7
    path = tmp_path / "X"
    text = payload.replace("{path}", str(path))
    for response in (text, f"\\boxed{{{text}}}", f"<answer>{text}</answer>"):
        assert grade(response, "7").verdict in (Verdict.WRONG, Verdict.NO_ANSWER)
        assert grade(response, "B", None, ["x^2", "2x"]).verdict is not Verdict.CORRECT
    assert not path.exists()


def judge_all(trees: list) -> None:
    for found in trees:
        with contextlib.suppress(KeyError):  # a ratio or f(x): compared as written, never sent to the worker
            expression = worker.build(found)
            assert worker.equal(expression, expression)
            worker.equal(expression, expression + 1)


def test_eval_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:  # 7
    """The worker's own code, run here on the whole corpus with everything that evaluates text taken away."""
    from sympy.core.cache import clear_cache
    from sympy.parsing import sympy_parser

    kept = builtins.eval, builtins.exec

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"evaluated: {args[0]!r}")

    cases = [json.loads(line) for line in (Path(__file__).parents[1] / "data" / "grading.jsonl").open()]
    texts = {text for case in cases for text in (case["gold"], case["prediction"])} | set(PAYLOADS)
    trees = []
    for text in sorted(texts):
        try:
            trees.append(tree(parse(text)))
        except (NotMathsError, TypeError):
            continue
    trees = [found for found in trees if found[0] != "tuple"]
    assert len(trees) > 100
    judge_all(trees)  # sympy imports some of its modules on first use, and an import is an exec
    clear_cache()
    for name in ("parse_expr", "eval_expr", "stringify_expr"):  # where a string given to sympify ends up
        monkeypatch.setattr(sympy_parser, name, forbidden)
    try:
        builtins.eval, builtins.exec = forbidden, forbidden  # type: ignore[assignment]
        judge_all(trees)
    finally:
        builtins.eval, builtins.exec = kept


def test_threads_asyncio_and_forks_agree() -> None:  # 8
    here = grade(*SYMBOLIC)
    assert here.verdict is Verdict.CORRECT
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: grade(*SYMBOLIC), range(8))) == [here] * 8

    async def graded() -> list:
        return [grade(*SYMBOLIC), await asyncio.to_thread(grade, *SYMBOLIC)]

    assert asyncio.run(graded()) == [here, here]


def test_a_forked_child_makes_its_own_pool() -> None:  # 8
    code = (
        "import os, sys\n"
        "from seethink.rewards.grader import grade\n"
        "from seethink.rewards.grader.pool import get_pool\n"
        "assert grade('\\\\sum_{k=1}^{n} k', '\\\\frac{n(n+1)}{2}').verdict == 'correct'\n"
        "mine = get_pool().pids()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    ok = grade('\\\\sum_{k=1}^{n} k^2', '\\\\frac{n(n+1)(2n+1)}{6}').verdict == 'correct'\n"
        "    ok = ok and not set(get_pool().pids()) & set(mine)\n"
        "    sys.exit(0 if ok else 3)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert grade('\\\\sum_{k=1}^{n} 2k', 'n(n+1)').verdict == 'correct'\n"
        "assert get_pool().pids() == mine\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_item_retried() -> None:  # 9
    grade("\\boxed{\\sum_{k=1}^{n} 3k}", "7")  # a worker runs
    before = get_pool().pids()
    assert before
    stop = threading.Event()

    def kill_now_and_then() -> None:
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        stop.set()

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    items = [(f"\\boxed{{\\sum_{{k=1}}^{{n}} {i}k}}", f"\\frac{{{i}n(n+1)}}{{2}}", None, None) for i in range(2, 10)]
    verdicts = {found.verdict for found in grade_batch(items)}
    killer.join()
    assert verdicts == {Verdict.CORRECT}
    assert not set(before) & set(get_pool().pids())


def test_a_worker_that_always_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:  # 9
    def dies(self: Pool, task: dict) -> dict:
        raise pool._DiedError

    monkeypatch.setattr(Pool, "_run", dies)
    found = grade("\\boxed{\\sum_{k=1}^{n} 77k}", "7")
    assert found.verdict is Verdict.ERROR
    assert "worker_died" in found.reason


def test_a_deadline_kills_the_worker_and_masks_the_item() -> None:
    before = get_pool().counts["grader_timeout"]
    found, seconds = timed(lambda: grade(ENDLESS % 1, "1/3"))
    assert found.verdict is Verdict.ERROR  # type: ignore[attr-defined]
    assert "grader_timeout" in found.reason  # type: ignore[attr-defined]
    assert seconds < 15
    assert get_pool().counts["grader_timeout"] == before + 1


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [True, False])
def test_a_machine_that_stops_takes_no_time_from_a_task(stopped: bool) -> None:
    """SIGSTOP, suspend and a busy machine: the task goes on, or is tried again by a new worker."""
    own, one = Pool(workers=1, deadline=0.3, patience=60 if stopped else 2), ["num", "1"]
    try:
        assert own.equal(one, one)
        (pid,) = own.pids()
        os.kill(pid, signal.SIGSTOP)
        if stopped:
            threading.Timer(0.7, lambda: os.kill(pid, signal.SIGCONT)).start()
        assert own.equal(one, one)
        assert own.counts == ({} if stopped else {"worker_silent": 1})
        assert (own.pids() == [pid]) == stopped
    finally:
        own.close()


def test_a_worker_inherits_neither_files_nor_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "sk-very-secret")
    own = Pool(workers=1)
    with (tmp_path / "weights").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            assert own.equal(["num", "1"], ["num", "1"])
            (pid,) = own.pids()
            opened = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        finally:
            own.close()
    assert not any("weights" in name or "socket" in name for name in opened)
    assert b"PATH=" in environment
    assert b"sk-very-secret" not in environment


@pytest.mark.parametrize(
    "busy", [pytest.param(False, id="idle"), pytest.param(True, id="busy", marks=pytest.mark.slow)]
)
def test_workers_end_when_their_parent_is_killed(busy: bool) -> None:
    code = (
        "import threading\n"
        "from seethink.rewards.grader import grade, pool\n"
        "pool.get_pool().deadline = 60\n"
        "grade('\\\\boxed{\\\\sum_{k=1}^{n} k}', '7')\n"
        f"if {busy}: threading.Thread(target=grade, args=({ENDLESS % 9!r}, '1/3')).start()\n"
        "print(*pool.get_pool().pids(), flush=True)\n"
        "threading.Event().wait()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert pids
    deadline = (
        time.monotonic() + 8 * worker.LIFETIME_OF_A_TASK
    )  # seconds of processor time, on a machine with other work
    while any(runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(runs(pid) for pid in pids)


def runs(pid: int) -> bool:
    """Whether a process exists and has not ended; an orphan may wait for long to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    "response", ["A, B, C, D, E, F, G, H, I, J", "A or B", "A/B", "Answer: AB", "Answer: A and B"]
)  # 10
def test_listing_options_earns_nothing(response: str) -> None:
    assert grade(response, "A", "mc", [f"option {i}" for i in range(10)]).verdict is Verdict.WRONG


@pytest.mark.parametrize("text", ["\ud800\udfff", "\x00", "\u202e7\u202c1", "\ufeff", "１７\u200b", "\udcff5"])  # 13
def test_odd_characters_do_no_harm(text: str) -> None:
    assert isinstance(grade(text, "17").verdict, Verdict)
    assert isinstance(grade(f"\\boxed{{{text}}}", "B", None, ["x", "y"]).verdict, Verdict)


def test_full_width_and_invisible_characters() -> None:  # 13
    assert grade("\\boxed{１７\u200b}", "17").verdict is Verdict.CORRECT


@pytest.mark.slow
def test_a_mixed_batch_with_deadline_hits_is_done_in_time() -> None:
    items: list = [(f"The answer is \\boxed{{{i}}}.", str(i), None, None) for i in range(900)]
    items += [(f"\\boxed{{(x+{i})^2}}", f"x^2+{2 * i}x+{i * i}", None, None) for i in range(116)]
    items += [SYMBOLIC] * 4 + [(ENDLESS % i, "1/3", None, None) for i in range(2, 6)]
    grade_batch([(f"\\boxed{{\\sum_{{k=1}}^{{n}} k^{i}}}", "7", None, None) for i in range(2, 6)])  # workers are up
    found, seconds = timed(lambda: grade_batch(items))
    assert [g.verdict for g in found[:1020]] == [Verdict.CORRECT] * 1020  # type: ignore[index]
    assert [g.verdict for g in found[1020:]] == [Verdict.ERROR] * 4  # type: ignore[index]
    assert seconds < 120  # 5 where nothing else runs: a deadline is processor time
