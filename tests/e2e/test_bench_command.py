"""`seethink eval --bench` and `seethink bench`: from their words to their files, against a scripted server and nano."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import forked
from helpers.benchmarks import logicvista_json, png, small, wemath_json
from helpers.command_line import run_command
from helpers.conversing import TextTalker
from helpers.forked import Forked
from helpers.scripted_openai import Ask, Reply, ScriptedOpenAI, after, says, sends
from helpers.verifying import hurry  # noqa: F401
from seethink.environments.make import ENVIRONMENTS
from seethink.environments.protocol import Step
from seethink.eval.tasks import registry
from seethink.runs.keyed_lines import KeyedLines

pytestmark = pytest.mark.usefixtures("hurry", "small_benchmarks")


@pytest.fixture
def small_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixtures' counts are not the real benchmarks'."""
    for name in ("logicvista", "wemath"):
        monkeypatch.setitem(registry.BENCHMARKS, name, small(name))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    logicvista_json(tmp_path / "data" / "logicvista", 12)
    wemath_json(tmp_path / "data" / "wemath")
    return tmp_path / "data"


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def answer(ask: Ask) -> Reply:
    """A letter by seed, thought about in one of three ways."""
    number = int(hashlib.sha256(json.dumps(ask.body["seed"]).encode()).hexdigest(), 16)
    letter = "ABCD"[number % 4]
    if number % 7 == 0:
        return says("<think>It could be", finish_reason="length", tokens=9)
    if number % 2:
        return says(f"\\boxed{{{letter}}}", reasoning_content="I look at it.", tokens=20)
    return says(f"<think>First (A), then {letter}.</think> The answer is {letter}.", tokens=12)


def evaluate(server: ScriptedOpenAI, data: Path, out: Path, *words: str) -> Any:
    served = ("--server", server.base_url, "--model", "m", "--data", str(data), "--out", str(out))
    return run_command("eval", *served, "--runs", "2", "--concurrency", "4", *words)


def content(folder: Path) -> dict[str, bytes]:
    """Every result, by path; the lock is none."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_a_server_is_asked_and_every_result_is_there(data: Path, tmp_path: Path) -> None:
    with ScriptedOpenAI(answer) as server:
        done = evaluate(server, data, tmp_path / "out", "--bench", "logicvista,wemath")
    assert done.returncode == 0, done.stderr
    assert len(server.asks) == 2 * (12 + 6)
    body = next(a.body for a in server.asks if "Which comes next" in a.prompt)
    assert (body["temperature"], body["max_tokens"], body["model"]) == (1.0, 16384, "m")
    image, text = body["messages"][-1]["content"]  # type: ignore[index]
    assert text == {"type": "text", "text": "Which comes next (A-D)?"}
    sent = base64.b64decode(image["image_url"]["url"].partition(",")[2])
    assert sent in [png(tone) for tone in range(12)]
    assert len({a.body["seed"] for a in server.asks}) == len(server.asks)
    table = json.loads((tmp_path / "out" / "eval.json").read_text())
    score = table["benchmarks"]["logicvista"]
    assert (score["n"], score["runs"], score["whole"], score["paper"]) == (12, 2, True, 59.7)
    assert table["settings"]["temperature"] == 1.0
    assert table["hardware"]["cpus"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert len(lines) == 12 + 6
    stored = [json.loads(x) for x in (tmp_path / "out/generations/logicvista/run_1.jsonl").read_text().splitlines()]
    assert [one["id"] for one in stored] == [f"v1_{n}" for n in range(12)]
    assert {one["reasoning"] for one in stored} >= {"I look at it."}
    cut = [one for one in stored if one["finish"] == "length"]
    grades = {g["key"]: g for g in map(json.loads, (tmp_path / "out/grades/logicvista.jsonl").read_text().splitlines())}
    assert cut
    assert all(grades[one["key"]]["verdict"] == "no_answer" for one in cut)
    assert "LogicVista" in done.stdout
    assert "59.7" in done.stdout
    page = (tmp_path / "out" / "report.html").read_text()
    assert "WeMath (strict)" in page
    assert "data:image/png;base64," in page


def test_whatever_is_lost_the_same_command_ends_with_the_same_bytes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedOpenAI(answer) as server:
        assert evaluate(server, data, tmp_path / "whole", "--bench", "logicvista,wemath").returncode == 0
        wanted = content(tmp_path / "whole")
        real, rng = KeyedLines.append, random.Random(4)
        for trial in range(3):
            out = tmp_path / f"cut{trial}"
            left = [rng.randrange(2, 40)]

            def failing(self: KeyedLines, records: Any, left: list[int] = left) -> None:
                records = list(records)
                left[0] -= len(records)
                if left[0] <= 0:
                    raise Killed
                real(self, records)

            monkeypatch.setattr(KeyedLines, "append", failing)
            with pytest.raises(Killed):
                evaluate(server, data, out, "--bench", "logicvista,wemath")
            monkeypatch.setattr(KeyedLines, "append", real)
            torn = out / "generations" / "logicvista" / "run_0.jsonl"
            if torn.exists():
                torn.write_bytes(torn.read_bytes()[:-5])  # a line that was being written
            asked = len(server.asks)
            assert evaluate(server, data, out, "--bench", "logicvista,wemath").returncode == 0
            assert len(server.asks) - asked < 2 * 18 or not torn.exists()
            found = content(out)
            assert {k: v for k, v in found.items() if k != "bench.json"} == {
                k: v for k, v in wanted.items() if k != "bench.json"
            }


def test_pictures_of_the_page_that_were_cut_are_written_anew(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ScriptedOpenAI(answer) as server:
        assert evaluate(server, data, out, "--bench", "logicvista").returncode == 0
        wanted = content(out)
        whole, cut, *_ = sorted((out / "images").iterdir())
        whole.unlink()
        cut.write_bytes(cut.read_bytes()[:20])
        assert evaluate(server, data, out, "--bench", "logicvista").returncode == 0
    assert content(out) == wanted


def test_a_finished_run_asks_nothing_and_other_settings_are_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ScriptedOpenAI(answer) as server:
        assert evaluate(server, data, out, "--bench", "logicvista", "--limit", "6").returncode == 0
        asked = len(server.asks)
        assert evaluate(server, data, out, "--bench", "logicvista", "--limit", "6").returncode == 0
        assert len(server.asks) == asked
        assert evaluate(server, data, out, "--bench", "logicvista").returncode == 0  # a sample grows
        assert len(server.asks) == 24
        smaller = evaluate(server, data, out, "--bench", "logicvista", "--limit", "3")
        warmer = evaluate(server, data, out, "--bench", "logicvista", "--temperature", "0.5")
    assert (smaller.returncode, warmer.returncode) == (2, 2)
    assert "has answers to all items, which --limit 3 would drop" in smaller.stderr
    assert "has answers made with temperature = 1.0, not 0.5; choose another folder" in warmer.stderr


def test_a_blind_baseline_sends_the_words_alone_to_a_folder_of_its_own(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ScriptedOpenAI(answer) as server:
        blind = evaluate(server, data, out, "--bench", "logicvista", "--limit", "6", "--blind")
        assert blind.returncode == 0
        asked = json.dumps([ask.body["messages"] for ask in server.asks[1:]])
        seeing = evaluate(server, data, out, "--bench", "logicvista", "--limit", "6")
    assert "image" not in asked
    assert "answered without images (--blind)" in blind.stdout
    assert "has answers made with blind = True, not False; choose another folder" in seeing.stderr


def test_failures_are_no_answers_and_too_many_of_them_fail_the_command(data: Path, tmp_path: Path) -> None:
    broken = {"on": True}

    def script(ask: Ask) -> Reply:
        bad = broken["on"] and isinstance(ask.body["seed"], int) and ask.body["seed"] % 4 == 0
        return sends(400, "too long") if bad else answer(ask)

    out = tmp_path / "out"
    with ScriptedOpenAI(script) as server:
        first = evaluate(server, data, out, "--bench", "logicvista")
        score = json.loads((out / "eval.json").read_text())["benchmarks"]["logicvista"]
        assert first.returncode == 1
        assert "more than 1% of the answers have no score: logicvista" in first.stdout
        assert "requests got no answer (the last: HTTP 400: too long)" in first.stdout
        assert score["unscored"] > 0
        broken["on"] = False
        assert evaluate(server, data, out, "--bench", "logicvista").returncode == 0
        assert json.loads((out / "eval.json").read_text())["benchmarks"]["logicvista"]["unscored"] == 0
        assert evaluate(server, data, tmp_path / "whole", "--bench", "logicvista").returncode == 0
    assert (out / "items.jsonl").read_bytes() == (tmp_path / "whole" / "items.jsonl").read_bytes()


def test_regrading_needs_no_model_and_changes_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ScriptedOpenAI(answer) as server:
        assert evaluate(server, data, out, "--bench", "logicvista").returncode == 0
    before = content(out)
    (out / "grades" / "logicvista.jsonl").unlink()
    again = run_command("eval", "--regrade", "--bench", "logicvista", "--out", str(out))
    assert again.returncode == 0, again.stderr
    after = content(out)
    for name in ("grades/logicvista.jsonl", "generations/logicvista/run_0.jsonl"):
        assert after[name] == before[name]
    scores = [json.loads(one["eval.json"])["benchmarks"] for one in (before, after)]
    assert scores[0] == scores[1]
    missing = run_command("eval", "--regrade", "--bench", "wemath", "--out", str(out))
    assert missing.returncode == 2
    assert "wemath has no stored answers" in missing.stderr


@pytest.mark.slow
def test_answers_with_and_without_a_tool_are_kept_apart(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This tool answers the first turns whatever they say: the stored text is that of the last one."""
    turns = []

    class Listener(TextTalker):
        def step(self, text: str) -> Step:
            turns.append(text)
            return super().step(text)

    monkeypatch.setitem(ENVIRONMENTS, "calculator", Listener)
    words = ["--bench", "logicvista", "--data", str(data), "--out", str(tmp_path / "out"), "--runs", "1"]
    words += ["--max-new-tokens", "90", "--limit", "4"]
    done = run_command("eval", "nano", *words, "--environment", "calculator", "--turns", "3")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out" / "generations").rglob("*.jsonl")
    answers = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(answers) == 4
    assert len(turns) > 4
    assert {one["text"] for one in answers if one["finish"] == "stop"} <= set(turns)
    identity = json.loads((tmp_path / "out" / "bench.json").read_text())["model"]
    assert identity["tools"] == {"environment": "calculator", "turns": 3, "turn_tokens": None}
    alone = run_command("eval", "nano", *words)
    assert alone.returncode == 2
    assert "choose another folder" in alone.stderr


def test_what_a_server_refuses_for_good_can_be_counted_as_wrong(data: Path, tmp_path: Path) -> None:
    def script(ask: Ask) -> Reply:
        bad = isinstance(ask.body["seed"], int) and ask.body["seed"] % 4 == 0
        return sends(400, "maximum context length") if bad else answer(ask)

    out = tmp_path / "out"
    with ScriptedOpenAI(script) as server:
        first = evaluate(server, data, out, "--bench", "logicvista")
        assert first.returncode == 1
        assert "--count-refused counts them as wrong" in " ".join(first.stdout.split())
        kept = run_command("eval", "--regrade", "--bench", "logicvista", "--out", str(out))
        assert kept.returncode == 1  # what is there is graded all the same
        again = evaluate(server, data, out, "--bench", "logicvista", "--count-refused")
    assert again.returncode == 0, again.stderr
    score = json.loads((out / "eval.json").read_text())["benchmarks"]["logicvista"]
    assert score["unscored"] == 0
    assert score["refused"] > 0


def test_the_verifier_is_asked_only_where_the_rule_says_wrong(data: Path, tmp_path: Path) -> None:
    def script(ask: Ask) -> Reply:
        if ask.gold:
            return says("VERDICT: EQUIVALENT")
        return answer(ask)

    with ScriptedOpenAI(script) as server:
        judge = (f"reward.verifier.base_url={server.base_url}", "reward.verifier.model=j",
                 "reward.verifier.canary_every=0", "reward.verifier.recheck_share=0")  # fmt: skip
        done = evaluate(server, data, tmp_path / "out", "--bench", "logicvista", *judge)
        assert done.returncode == 0, done.stderr
        grades = [json.loads(x) for x in (tmp_path / "out/grades/logicvista.jsonl").read_text().splitlines()]
        assert {g["verdict"] for g in grades if g["by"] == "verifier"} == {"correct"}
        assert not [g for g in grades if g["verdict"] == "wrong"]
        assert {g["by"] for g in grades} == {"rule", "verifier", "format"}
        assert all("I look at it" not in a.prompt for a in server.asks if a.gold)


def test_two_folders_are_compared(data: Path, tmp_path: Path) -> None:
    with ScriptedOpenAI(answer) as server:
        for name, seed in (("a", "0"), ("b", "1")):
            assert (
                evaluate(server, data, tmp_path / name, "--bench", "logicvista,wemath", "--seed", seed).returncode == 0
            )
    page = tmp_path / "compared.html"
    done = run_command("eval", "--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(page))
    assert done.returncode == 0, done.stderr
    assert "within noise" in done.stdout
    assert "points" in page.read_text()
    none = run_command("eval", "--compare", str(tmp_path), str(tmp_path / "b"))
    assert none.returncode == 2
    assert "has no results of `seethink eval --bench`" in none.stderr


def test_wrong_words_are_one_line(data: Path, tmp_path: Path) -> None:
    cases = {
        "expected names from mmmu": ("eval", "nano", "--bench", "mmmo", "--data", str(data)),
        "--bench needs its data": ("eval", "nano", "--bench", "mmmu", "--out", str(tmp_path / "o")),
        "with --bench give --limit": ("eval", "nano", "--bench", "mmmu", "--size", "3", "--data", str(data)),
        "--server needs --model NAME": ("eval", "--server", "http://127.0.0.1:1/v1", "--bench", "mmmu"),
        "must be an http(s) address": ("eval", "--server", "ftp://x", "--model", "m", "--bench", "mmmu"),
        "expected paper or greedy": ("eval", "nano", "--bench", "mmmu", "--protocol", "papers", "--data", str(data)),
        "expected a MODEL": ("eval",),
        "has no answers of": ("eval", "--regrade", "--bench", "mmmu", "--out", str(tmp_path / "o")),
        "no answer from a server at": ("eval", "--server", "http://127.0.0.1:9/v1", "--model", "m", "--bench",
                                       "logicvista", "--data", str(data), "--out", str(tmp_path / "p")),
        "expected one of mmmu": ("bench", "check", "mmmo", "--data", str(data)),
    }  # fmt: skip
    for said, words in cases.items():
        done = run_command(*words)
        assert done.returncode == 2, words
        assert re.search(re.escape(said), done.stderr), (said, done.stderr)
        assert done.stderr.count("\n") == 1


def test_a_folder_of_other_files_is_left_alone(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "report.html").write_text("a training run's")
    with ScriptedOpenAI(answer) as server:
        done = evaluate(server, data, run, "--bench", "logicvista")
    assert (done.returncode, server.asks) == (2, [])
    assert "holds other files, such as 'report.html'; choose a new or an empty folder" in done.stderr
    assert (run / "report.html").read_text() == "a training run's"


def test_bench_list_and_check(data: Path) -> None:
    listed = run_command("bench", "list", "--data", str(data))
    assert listed.returncode == 0
    assert f"found in {data / 'logicvista'}" in listed.stdout
    assert len(re.findall(r"paper \d", listed.stdout)) == 16
    checked = run_command("bench", "check", "logicvista", "--data", str(data))
    assert checked.returncode == 0, checked.stdout
    assert "12 items, 12 images" in checked.stdout
    assert "known bad row v1_382" in checked.stdout
    assert "0 golds beyond the known bad rows are not graded right" in checked.stdout


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Forked]:
    """Begins `seethink eval --bench logicvista` as a process, with an `--out` and further words.

    The real counts do not fit the fixture, so the processes take theirs from a file of this test's.
    """
    logicvista_json(tmp_path / "data", 70)
    wrapper = tmp_path / "run.py"
    wrapper.write_text(
        "import sys\nfrom helpers.benchmarks import small\nfrom seethink.eval.tasks import registry\n"
        "registry.BENCHMARKS['logicvista'] = small('logicvista')\n"
        "from seethink.cli.main import main\nmain()\n"
    )
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths}

    def begin(out: Path, *words: str) -> Forked:
        where = ("--bench", "logicvista", "--data", str(tmp_path / "data"), "--out", str(out), "--runs", "2")
        command = [sys.executable, str(wrapper), "eval", *words, *where]
        return forked.start(command, env=environment)

    return begin


def kill_after(process: Forked, out: Path, answers: int, seconds: float) -> None:
    """SIGKILL, so many seconds after so many answers were stored."""

    def stored() -> int:
        return sum(path.read_bytes().count(b"\n") for path in (out / "generations").rglob("*.jsonl"))

    while process.poll() is None and stored() < answers:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait(20)


def same_results(one: Path, other: Path) -> bool:
    left = [{k: v for k, v in content(folder).items() if k != "bench.json"} for folder in (one, other)]
    return left[0] == left[1]


@pytest.mark.slow
def test_nano_killed_at_random_ends_with_the_same_bytes(start: Callable[..., Forked], tmp_path: Path) -> None:
    words = ("nano", "--max-new-tokens", "24")
    assert start(tmp_path / "whole", *words).wait(300) == 0
    process = start(tmp_path / "cut", *words)
    # Between its two chunks of answers, or after them.
    kill_after(process, tmp_path / "cut", 1, random.Random().uniform(0, 0.3))
    assert start(tmp_path / "cut", *words).wait(300) == 0
    assert same_results(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_a_kill_loses_the_answers_in_flight_alone(start: Callable[..., Forked], tmp_path: Path) -> None:
    with ScriptedOpenAI(lambda ask: after(0.05, answer(ask))) as server:
        words = ("--server", server.base_url, "--model", "m", "--concurrency", "8")
        process = start(tmp_path / "cut", *words)
        kill_after(process, tmp_path / "cut", random.Random().randrange(1, 100), 0.0)
        assert process.returncode == -signal.SIGKILL
        assert start(tmp_path / "cut", *words).wait(300) == 0
        times = Counter(ask.body["seed"] for ask in server.asks)
        assert start(tmp_path / "whole", *words).wait(300) == 0
    assert len(times) == 2 * 70
    assert max(times.values()) <= 2
    # Eight in flight, and what came within the fiftieth of a second that gathers a batch.
    assert sum(count == 2 for count in times.values()) <= 16
    assert same_results(tmp_path / "whole", tmp_path / "cut")
