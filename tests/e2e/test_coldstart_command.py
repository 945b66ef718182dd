"""`seethink coldstart` from its words to the rows that SFT reads, with a scripted server and with a local model."""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.asking import (
    GOLD,
    by_number,
    everything_in,
    file_of,
    final_files,
    number_of,
    picture,
    problem,
    problems,
    solves,
    thought,
)
from helpers.command_line import Finished, run_command
from helpers.rows import load_samples, write_jsonl
from helpers.scripted_openai import Ask, Concurrency, Reply, ScriptedOpenAI, hangs, says, sends, sends_half
from helpers.verifying import hurry  # noqa: F401
from seethink.config import Recipe, RewardConfig, make_recipe
from seethink.data.quarantine import Quarantine
from seethink.models.load import load_chat
from seethink.rewards.rewarder import Rewarder
from seethink.train.traces import load_traces

pytestmark = pytest.mark.usefixtures("hurry")
KEY = "sk-notinanyfile0123456789"


def run(source: Path | str, out: Path, server: ScriptedOpenAI | None, *words: str) -> Finished:
    where = ["--teacher", server.base_url, "--model", "wise"] if server is not None else []
    return run_command("coldstart", str(source), "-o", str(out), *where, *words, cwd=out.parent)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def states(out: Path) -> dict[str, list[str]]:
    """The states of every problem's samples, by its id."""
    found: dict[str, dict[int, str]] = {}
    for trace in lines(out / "traces.jsonl"):
        found.setdefault(trace["id"], {})[trace["sample"]] = trace["state"]
    return {name: [own[n] for n in sorted(own)] for name, own in found.items()}


def first_reasons(out: Path) -> dict[str, int]:
    return json.loads((out / "data" / "funnel.json").read_text())["first_reasons"]


def loops(ask: Ask) -> Reply:
    return says(f"<think>{'Wait, let me look again. ' * 40}</think>{GOLD + number_of(ask)}", tokens=200)


def mixes(ask: Ask) -> Reply:
    return says(f"<think>所以它是。</think>{GOLD + number_of(ask)}")


def apart(ask: Ask) -> Reply:
    return says(f"The answer is {GOLD + number_of(ask)}.", reasoning_content=f"I see picture {number_of(ask)}.")


def closes(ask: Ask) -> Reply:
    return says(thought(number_of(ask)).removeprefix("<think>"))


def once(first: Reply, then: Callable[[Ask], Reply]) -> Callable[[Ask], Reply]:
    seen = Counter[int]()

    def reply(ask: Ask) -> Reply:
        seen[number_of(ask)] += 1
        return first if seen[number_of(ask)] == 1 else then(ask)

    return reply


FAULTS: dict[int, Callable[[Ask], Reply]] = {
    1: lambda ask: says(thought(1, 5)),
    2: loops,
    3: mixes,
    4: lambda ask: says(" "),
    5: lambda ask: says("<think>and so", finish_reason="length"),
    6: lambda ask: says("", refusal="I will not look at it."),
    7: apart,
    8: closes,
    9: once(sends(429, "slow down", {"Retry-After": "0.2"}), solves),
    10: once(sends(500, "oops"), solves),
    11: once(sends_half(), solves),
    12: lambda ask: sends(200, "{}"),
    13: once(hangs(), solves),
    14: lambda ask: says("I cannot see the image. <think>x</think>"),
    15: once(says(thought(15, 1)), solves),
    16: lambda ask: sends(400, "the image is too large"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Finished, ScriptedOpenAI]]:
    """A run against a server with every fault; 8 problems have none."""
    folder = tmp_path_factory.mktemp("coldstart")
    source = problems(folder / "questions", 24)
    with pytest.MonkeyPatch.context() as patched, ScriptedOpenAI(by_number(FAULTS)) as server:
        patched.setattr("seethink.endpoint.limits._BACKOFF_FIRST_S", 0.05)
        patched.setenv("TEACHER_KEY", KEY)
        words = ["teacher.api_key_env=TEACHER_KEY", "teacher.call_timeout_s=1.0", "teacher.max_retries=2"]
        yield folder / "out", run(source, folder / "out", server, *words, "coldstart.samples=3"), server


def test_states_and_reasons(made: tuple[Path, Finished, ScriptedOpenAI]) -> None:
    out, finished, _ = made
    assert finished.returncode == 1, finished.stderr
    assert "1 of 36 samples failed or could not be graded; the last one: not a chat completion" in finished.stdout
    found = states(out)
    assert [found[f"p{n}"] for n in (0, 1, 4, 5, 6, 12, 15, 16)] == [
        ["done"], ["done"] * 3, ["empty"] * 3, ["truncated"] * 2, ["refused"] * 3, ["failed"], ["done"] * 2,
        ["refused"] * 3,
    ]  # fmt: skip
    assert first_reasons(out) == {
        "refused": 2, "wrong_answer": 1, "bad_format": 1, "rambling": 1, "language_mixed": 1, "empty": 1,
        "truncated": 1, "failed": 1,
    }  # fmt: skip


def test_thoughts_that_come_apart_become_one_form(made: tuple[Path, Finished, ScriptedOpenAI]) -> None:
    rows = {row["id"]: row["response"] for name in ("train", "val") for row in lines(made[0] / f"data/{name}.jsonl")}
    assert rows["p7"] == f"<think>I see picture 7.</think>The answer is {GOLD + 7}."
    assert rows["p8"] == thought(8)
    assert {f"p{n}" for n in (0, 7, 8, 9, 10, 11, 13, 15, 17)} <= rows.keys()
    assert not {f"p{n}" for n in (1, 2, 3, 4, 5, 6, 12, 14, 16)} & rows.keys()


def test_the_gold_and_the_key_stay_here(made: tuple[Path, Finished, ScriptedOpenAI]) -> None:
    out, finished, server = made
    bodies = "".join(json.dumps(ask.body) for ask in server.asks)
    assert len(server.asks) > 30
    assert str(GOLD)[:4] not in bodies
    assert all(ask.headers["authorization"] == f"Bearer {KEY}" for ask in server.asks)
    assert KEY not in bodies + finished.stdout + finished.stderr
    assert KEY.encode() not in everything_in(out)
    assert str(GOLD + 1) not in finished.stdout + finished.stderr


def test_the_bytes_of_pictures_arrive_unchanged(made: tuple[Path, Finished, ScriptedOpenAI]) -> None:
    for ask in made[2].asks:
        (url,) = (p["image_url"]["url"] for p in ask.body["messages"][-1]["content"] if p["type"] == "image_url")  # type: ignore[index]
        assert base64.b64decode(url.partition(",")[2]) == file_of(picture(number_of(ask)))


def test_a_second_call_asks_nothing_and_changes_nothing(made: tuple[Path, Finished, ScriptedOpenAI]) -> None:
    out, _, server = made
    before, asked = final_files(out), len(server.asks)
    again = run(out.parent / "questions" / "problems.jsonl", out, server, "coldstart.samples=3")
    assert again.returncode == 1
    assert (final_files(out), len(server.asks)) == (before, asked)


@pytest.mark.slow
def test_refiltering_sends_nothing_and_gives_the_same_bytes_twice(
    made: tuple[Path, Finished, ScriptedOpenAI], tmp_path: Path
) -> None:
    out, _, server = made
    shutil.copytree(out, tmp_path / "out")
    asked = len(server.asks)
    before = final_files(out)
    for words in (["sft.max_response_tokens=4"], ["sft.max_response_tokens=4"], []):
        run("anything", tmp_path / "out", None, "--refilter", *words)
        found = final_files(tmp_path / "out")
        assert (found == before) is (words == [])
        if words:
            assert first_reasons(tmp_path / "out")["too_long"] > 5
            assert not (tmp_path / "out/data/train.jsonl").exists()
            assert not list((tmp_path / "out/data/images").iterdir()), "pictures of no row go"
    assert len(server.asks) == asked


@pytest.mark.slow
def test_training_drops_none_of_the_rows(made: tuple[Path, Finished, ScriptedOpenAI], tmp_path: Path) -> None:
    data = made[0] / "data"
    recipe = sft_recipe(tmp_path, data)
    (tmp_path / "run").mkdir()
    with Rewarder(RewardConfig()) as rewarder:
        train, val, _ = load_traces(recipe, load_chat("nano"), rewarder, Quarantine(), same_data=False)
    assert (len(train), len(val)) == tuple(len(lines(data / f"{name}.jsonl")) for name in ("train", "val"))
    report = json.loads((tmp_path / "run/data.json").read_text())
    assert report["dropped"] == {}
    assert report["kept"] == len(train) > 10


def test_parquet_has_the_same_rows_with_their_pictures_inside(
    made: tuple[Path, Finished, ScriptedOpenAI], tmp_path: Path
) -> None:
    out, contents = tmp_path / "out", set()
    shutil.copytree(made[0], out)
    before = final_files(out)
    for _ in range(2):
        assert run("anything", out, None, "--refilter", "coldstart.format=parquet").returncode == 1
        names = sorted(path.name for path in (out / "data").iterdir())
        assert names == ["README.md", "funnel.json", "train.parquet", "val.parquet"]
        contents.add((out / "data/train.parquet").read_bytes())
    assert len(contents) == 1
    for name in ("train", "val"):
        first, second = (read(path) for path in (made[0] / f"data/{name}.jsonl", out / f"data/{name}.parquet"))
        assert first == second
    run("anything", out, None, "--refilter")
    assert final_files(out) == before


def read(path: Path) -> list[tuple[object, ...]]:
    """The samples of a file, as training reads them, with the hashes of their pictures."""
    samples = load_samples(str(path), "train", 100, 0)
    return [(s.id, s.question, s.answer, s.domain, s.response, [i.sha256 for i in s.images]) for s in samples]  # type: ignore[union-attr]


def sft_recipe(folder: Path, data: Path) -> Recipe:
    own = {"train": str(data / "train.jsonl"), "val": str(data / "val.jsonl")}
    return make_recipe({"name": "t", "stage": "sft", "out": str(folder / "run"), "data": own})


def test_the_card_and_the_page(made: tuple[Path, Finished, ScriptedOpenAI]) -> None:
    out = made[0]
    card = (out / "data/README.md").read_text()
    assert "| Benchmarks kept out | not checked |" in card
    assert "| Teacher | wise |" in card
    assert "127.0.0.1" not in card
    page = (out / "report.html").read_text()
    assert "says it cannot see" not in first_reasons(out)
    for said in ("seethink cold start", "cut off at the length limit", "repeats itself", "p2", "data:image/png;base64"):
        assert said in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_what_failed_is_asked_again_on_demand(tmp_path: Path) -> None:
    source, broken = problems(tmp_path / "q", 5), {3: lambda ask: sends(200, "{}")}
    with ScriptedOpenAI(by_number(broken)) as server:
        assert run(source, tmp_path / "out", server, "teacher.max_retries=0").returncode == 1
        asked = len(server.asks)
        server.script = solves
        assert run(source, tmp_path / "out", server).returncode == 1
        assert len(server.asks) == asked, "failures wait for --retry-failed"
        assert run(source, tmp_path / "out", server, "--retry-failed").returncode == 0
    assert len(server.asks) == asked + 1
    assert first_reasons(tmp_path / "out") == {}


@pytest.mark.slow
def test_a_verifier_that_is_down_leaves_grades_open(tmp_path: Path) -> None:
    """An error is no wrong answer: it is graded again, and nothing more is asked meanwhile."""
    words = ["coldstart.samples=2", "reward.verifier.max_retries=0", "reward.verifier.canary_every=0"]
    words += ["reward.verifier.model='judge'", "reward.verifier.call_timeout_s=1.0"]
    in_words = by_number({0: lambda ask: says("<think>I add.</think>The answer is as much as it says.")})

    def script(ask: Ask) -> Reply:
        return sends(200, "{}") if ask.gold else in_words(ask)

    with ScriptedOpenAI(script) as server:
        words.append(f"reward.verifier.base_url='{server.base_url}'")
        source = problems(tmp_path / "q", 4)
        first = run(source, tmp_path / "out", server, *words)
        assert first.returncode == 1, first.stderr
        assert first_reasons(tmp_path / "out") == {"not_graded": 1}
        asked = sum(not ask.gold for ask in server.asks)
        assert asked == 4
        server.script = lambda ask: says("VERDICT: EQUIVALENT") if ask.gold else in_words(ask)
        again = run(source, tmp_path / "out", server, *words)
        assert again.returncode == 0, again.stderr
        assert sum(not ask.gold for ask in server.asks) == asked
    table = json.loads((tmp_path / "out/data/funnel.json").read_text())
    assert table["right_by"] == {"rule": 3, "verifier": 1}
    assert table["questions"]["selected"] == 4
    assert "decided by the verifier" in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
def test_options_need_two_right_answers(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "q.jsonl", [
        {"id": str(n), "question": f"Problem {n}?", "choices": ["x", "y", "z"], "answer": "B"} for n in range(3)
    ])  # fmt: skip
    told = {0: ["B", "B"], 1: ["B", "A", "C", "A"], 2: ["A", "B", "C", "B"]}
    seen = Counter[int]()

    def script(ask: Ask) -> Reply:
        number = number_of(ask)
        seen[number] += 1
        return says(f"<think>It is one.</think>{told[number][seen[number] - 1]}")

    with ScriptedOpenAI(script) as server:
        refused = run(source, tmp_path / "out", server, "--samples", "1")
        assert refused.returncode == 2
        assert "coldstart.choice_right=2 right traces cannot come of samples=1" in refused.stderr
        assert run(source, tmp_path / "out", server).returncode == 0
    assert seen == {0: 2, 1: 4, 2: 4}
    assert first_reasons(tmp_path / "out") == {"perhaps_chance": 1}


@pytest.mark.slow
def test_several_servers_share_the_work_and_their_limits_hold(tmp_path: Path) -> None:
    source, busy = problems(tmp_path / "q", 24), [Concurrency(), Concurrency()]
    with (
        ScriptedOpenAI(lambda ask: busy[0].counted(0.03, solves(ask))) as one,
        ScriptedOpenAI(lambda ask: busy[1].counted(0.03, solves(ask))) as two,
    ):
        words = ["--teacher", two.base_url, "--teacher", "http://127.0.0.1:9/v1", "teacher.max_concurrency=3"]
        finished = run(source, tmp_path / "out", one, *words, "teacher.max_retries=0")
    assert finished.returncode == 0, finished.stderr
    assert "left out: no answer from a server at http://127.0.0.1:9/v1" in finished.stdout
    assert len(one.asks) + len(two.asks) == 24
    assert min(len(one.asks), len(two.asks)) > 3
    assert [b.most for b in busy] == [3, 3]
    assert len(lines(tmp_path / "out/data/train.jsonl")) + len(lines(tmp_path / "out/data/val.jsonl")) == 24


@pytest.mark.slow
def test_another_server_of_the_same_name_is_another_teacher(tmp_path: Path) -> None:
    source = problems(tmp_path / "q", 2)
    with ScriptedOpenAI(solves) as one, ScriptedOpenAI(solves) as two:
        assert run(source, tmp_path / "out", one).returncode == 0
        refused = run(source, tmp_path / "out", two)
    assert refused.returncode == 2
    assert "other servers may serve another model under that name" in refused.stderr
    assert not two.asks


@pytest.mark.slow
def test_a_dry_run_shows_prompts_and_sends_nothing(tmp_path: Path) -> None:
    source = problems(tmp_path / "q", 6)
    with ScriptedOpenAI(solves) as server:
        words = ["coldstart.price_in=2", "coldstart.price_out=10", "--dry-run"]
        first = run(source, tmp_path / "out", server, *words)
        assert first.returncode == 0, first.stderr
        assert not server.asks
        assert server.greetings == 0
        assert "Problem 0: what is the sum?" in first.stdout
        assert "(data:image/png;base64" not in first.stdout
        assert "6 to 24" in first.stdout
        assert str(GOLD) not in first.stdout
        assert run(source, tmp_path / "out", server, "--limit", "3").returncode == 0
        measured = run(source, tmp_path / "out", server, *words)
    assert "means of the 3 samples in the folder" in measured.stdout
    assert "completion tokens a request" in measured.stdout
    row = next(line for line in measured.stdout.splitlines() if "completion tokens a request" in line)
    assert " 12 " in row, "what each of the three took"
    assert run("anything", tmp_path / "out", None, "--refilter").returncode == 0
    counts = json.loads((tmp_path / "out/data/funnel.json").read_text())["questions"]
    assert (counts["read"], counts["selected"]) == (3, 3), "a dry run leaves what was collected alone"
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".dry-run")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["coldstart.sampels=2"], "unknown key 'coldstart.sampels'; did you mean 'coldstart.samples'?"),
        (["optim.lr=1"], "only keys of [data], [teacher], [reward], [sft], [coldstart]"),
        (["teacher.base_url=http://x"], "teacher.base_url: give --teacher instead"),
        (["teacher.max_tokens=9"], "teacher.max_tokens: give coldstart.max_tokens instead"),
        (["--refilter", "--samples", "2"], "--refilter sends nothing, and 'coldstart.samples=2' says what is sent"),
        (["--refilter", "--dry-run"], "--refilter sends nothing"),
        (["--refilter"], "no traces to select from"),
        ([], "--teacher: give the address of a server, or local:CHECKPOINT"),
        (["--teacher", "http://127.0.0.1:9/v1"], "--model: give the name"),
        (["--teacher", "http://u:p@x/v1", "--model", "m"], "must hold no user name"),
        (["--teacher", "local:nano", "--teacher", "http://x"], "a local checkpoint is the only teacher"),
        (["--teacher", "local:nowhere"], "no model 'nowhere'"),
        (["--recipe", "none.toml"], "not a readable TOML file"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    ended = run(problems(tmp_path / "q", 1), tmp_path / "out", None, *words)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    with ScriptedOpenAI(solves) as server:
        ended = run(problems(tmp_path / "q", 1), tmp_path / "out", server)
    assert ended.returncode == 2
    assert "has files that are not of a cold start" in ended.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def test_a_folder_among_the_data_is_refused(tmp_path: Path) -> None:
    source = problems(tmp_path / "q", 1).parent
    ended = run_command("coldstart", str(source), "-o", str(source / "out"), "--refilter", cwd=tmp_path)
    assert ended.returncode == 2
    assert "lies inside" in ended.stderr
    assert not (source / "out").exists()


@pytest.mark.slow
def test_settings_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "cold.toml").write_text(
        "[coldstart]\nsamples = 1\nquotas = { maths = 1 }\n[sft]\nmax_repetition = 0.3\n"
    )
    with ScriptedOpenAI(solves) as server:
        ended = run(problems(tmp_path / "q", 4), tmp_path / "out", server, "--recipe", "cold.toml")
    assert ended.returncode == 0, ended.stderr
    assert first_reasons(tmp_path / "out") == {"over_quota": 1}
    assert '"max_repetition": 0.3' in (tmp_path / "out/data/README.md").read_text()


def test_a_row_reads_back_as_the_sample_that_was_asked(tmp_path: Path) -> None:
    problems(tmp_path / "q", 3)
    rows = [
        problem(0, question="Problem 0: compare <image> and <image>.", images=["0.png", "1.png"], image=None),
        problem(1, system="Be exact.", answer_type="number", difficulty="hard"),
    ]
    with ScriptedOpenAI(solves) as server:
        source = write_jsonl(tmp_path / "q" / "two.jsonl", rows)
        assert run(source, tmp_path / "out", server, "coldstart.val_share=0").returncode == 0
    asked = load_samples(str(source), "train", None, 0)
    read = load_samples(str(tmp_path / "out/data/train.jsonl"), "train", None, 0)
    same = ("id", "question", "answer", "choices", "answer_type", "domain", "difficulty", "system")
    assert [[getattr(s, name) for name in same] for s in read] == [[getattr(s, n) for n in same] for s in asked]
    assert [[i.sha256 for i in s.images] for s in read] == [[i.sha256 for i in s.images] for s in asked]  # type: ignore[union-attr]
    bodies = sorted((ask.body["messages"] for ask in server.asks), key=lambda said: "Problem 1" in str(said))  # type: ignore[arg-type]
    assert [part["type"] for part in bodies[0][-1]["content"]] == ["text", "image_url", "text", "image_url", "text"]
    assert bodies[1][0]["content"].endswith("\n\nBe exact.")


def local(model: Path, out: Path, *words: str) -> tuple[Finished, dict[tuple[str, int], tuple[str, str]]]:
    """A run with a local teacher, and its samples by problem and number."""
    where = ["--teacher", f"local:{model}", "--limit", "4", "--samples", "2"]
    ended = run("world:math", out, None, *where, *words)
    traces = lines(out / "traces.jsonl")
    return ended, {(t["id"], t["sample"]): (t["state"], t.get("text") or t.get("error")) for t in traces}


def test_a_local_checkpoint_is_a_teacher(random_nano: Path, tmp_path: Path) -> None:
    ended, samples = local(random_nano, tmp_path / "a", "coldstart.max_tokens=12")
    assert ended.returncode == 0, ended.stderr
    assert len(samples) >= 4
    assert {state for state, _ in samples.values()} <= {"done", "truncated", "empty"}


@pytest.mark.slow
def test_what_a_local_checkpoint_draws_stays_the_same(random_nano: Path, tmp_path: Path) -> None:
    first, again = (local(random_nano, tmp_path / name, "coldstart.max_tokens=12")[1] for name in ("a", "b"))
    assert first == again
    ended, samples = local(random_nano, tmp_path / "c", "coldstart.max_tokens=100000")
    assert ended.returncode == 1
    assert "coldstart.max_tokens=100000: lower it" in ended.stdout
    assert {state for state, _ in samples.values()} == {"failed"}
