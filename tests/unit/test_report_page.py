"""The report without a browser: reading, escaping, confinement, what is missing, and how large it gets."""

from __future__ import annotations

import json
import math
import random
import re
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from make_run import HOSTILE, SECRET, make_pipeline, make_rl, make_sft

from seethink.core.redact import is_secret_name, redact, redact_text, visible
from seethink.report import summary_table, write_report
from seethink.report.axes import linear_axis, log_axis, tick_text
from seethink.report.charts import Series, line_chart, smooth, thin
from seethink.report.html import embed
from seethink.report.images import Album
from seethink.report.load import Score, Stage, inside, load_run
from seethink.report.rollouts import collect
from seethink.report.scores import accuracy_sentences, domain_score, main_mode, mean_score


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pipeline(tmp_path_factory.mktemp("run") / "pipeline", hostile=True, steps=30)


@pytest.fixture(scope="module")
def page(pipeline: Path) -> str:
    return write_report(pipeline).read_text(encoding="utf-8")


def embedded(page: str) -> dict:
    return json.loads(page.split('id="rollout-data">')[1].split("</script>")[0])


# Reading a folder


def test_pipeline_is_read_in_order(pipeline: Path) -> None:
    run = load_run(pipeline)
    assert [stage.name for stage in run.stages] == ["base", "cold-start", "RL", "connector"]
    assert [stage.kind for stage in run.stages] == ["none", "sft", "rl", "sft"]
    assert run.problems == []


@pytest.mark.parametrize("content", [{}, {"notes.txt": "x"}])
def test_wrong_folder_says_what_was_expected_and_found(tmp_path: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"expected pipeline\.json.*found (an empty folder|notes\.txt)\. Pass the"):
        write_report(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        write_report(tmp_path / "absent")
    assert not (tmp_path / "report.html").exists()


def test_damaged_files_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    run = make_pipeline(tmp_path / "run", steps=20)
    metrics = run / "grpo" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-40] + b"\xff")
    (run / "grpo" / "parts.json").write_text("[1, 2")
    (run / "cold_start" / "data.json").write_text('{"read": "many", "dropped": [3]}')
    (run / "connector" / "eval.json").unlink()
    (run / "grpo" / "rollouts" / "step_000010.jsonl").write_text("[1]\nnull\n{\n")
    (run / "base" / "eval.json").write_text('{"scores": [{"domain": "math", "accuracy": NaN}, 7]}')
    page = write_report(run).read_text(encoding="utf-8")
    assert "grpo/metrics.jsonl: line 20 could not be read" in page
    assert "grpo/parts.json is damaged" in page
    assert "Stage connector: no evaluation" in page
    assert "3 rollout groups could not be read" in page
    assert "Reward by step, RL" in page


def test_every_kind_of_nonsense_is_survived(tmp_path: Path) -> None:
    row = {
        "step": "x",
        "completions": [{"tokens": [1], "entropies": "a", "critical": 3, "reward": math.inf}, 4],
    }
    wrong = {"stages": 1, "scores": {}, "parts": 2, "dropped": None, "versions": 3, "in_domain": 4}
    wrong |= {"rows": [3, {"accuracy": 0.5, "budget": "x", "n": []}], "criteria": {"a": 3, "b": {"values": {"c": [1]}}}}
    wrong |= {"targets": [1], "correlations": [2, {"criterion": "a", "spearman": "high"}], "by": None}
    lines = [3, {"step": 1}, {"step": 2, "groups": [1], "threshold": "x", "name": 4, "action": None, "value": [1]}]
    lines += [
        {"step": step, "groups": {"all": {"mean": "a", "histogram": {"bins": [1], "counts": "x"}}}} for step in (3, 4)
    ]
    for name in ("entropy", "watchdogs"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name in ("pipeline", "recipe", "parts", "eval", "data", "modes", "select"):
        for value in (3, [], wrong):
            (tmp_path / f"{name}.json").write_text(json.dumps(value))
            (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": None, "reward/mean": "high"}) + "\n{}\n3")
            (tmp_path / "rollouts").mkdir(exist_ok=True)
            (tmp_path / "rollouts" / "step_000001.jsonl").write_text(json.dumps(row) + "\n")
            assert embedded(write_report(tmp_path).read_text(encoding="utf-8"))["groups"][0]["step"] == 1


@pytest.mark.parametrize("missing", ["recipe.json", "metrics.jsonl", "parts.json", "rollouts", "images"])
def test_a_stage_alone_with_a_piece_missing(tmp_path: Path, missing: str) -> None:
    stage = make_rl(tmp_path / "grpo", random.Random(1), steps=20)
    target = stage / missing
    target.rename(tmp_path / "elsewhere")
    page = write_report(stage, tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert "What is missing" in page
    if missing == "images":
        assert embedded(page)["groups"][0]["images"] == ["image file is missing"]


def test_sft_alone_shows_losses_and_the_filter(tmp_path: Path) -> None:
    stage = make_sft(tmp_path / "sft", random.Random(1), ("connector",), with_data=True)
    page = write_report(stage).read_text(encoding="utf-8")
    assert "Loss by step, sft" in page
    assert "final answer differs from the gold answer" in page
    assert "training loss falls from" in page


def test_stages_are_found_without_a_pipeline_file(tmp_path: Path) -> None:
    run = make_pipeline(tmp_path / "run", steps=10)
    (run / "pipeline.json").write_text("{")
    assert [stage.name for stage in load_run(run).stages] == ["base", "cold_start", "grpo", "connector"]


def test_a_stage_folder_outside_the_run_is_refused(tmp_path: Path) -> None:
    run = make_pipeline(tmp_path / "run", steps=10)
    make_sft(tmp_path / "other", random.Random(1), ("connector",))
    stages = [{"name": "base", "dir": "base"}, {"name": "evil", "dir": "../other"}]
    (run / "pipeline.json").write_text(json.dumps({"stages": stages}))
    loaded = load_run(run)
    assert [stage.name for stage in loaded.stages] == ["base"]
    assert "lies outside the run" in loaded.problems[0]


# Untrusted text


def test_hostile_text_is_escaped_everywhere(page: str) -> None:
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert "<!--" not in page
    assert "onerror=" not in re.sub(r'<script type="application/json".*?</script>', "", page).replace("&lt;img", "")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_embedded_json_has_no_markup_and_comes_back_whole(page: str) -> None:
    text = page.split('id="rollout-data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(text)
    first = next(group for group in json.loads(text)["groups"] if "training" in group["source"])
    assert first["answer"] == HOSTILE[1]
    assert first["completions"][0]["tokens"][:3] == list(HOSTILE[:3])
    assert json.loads(embed({"k": "</script>&\u2028"})) == {"k": "</script>&\u2028"}


def test_spans_of_the_text_become_spans_of_tokens(tmp_path: Path) -> None:
    tokens = ["<think>", "I", " can", "'t see", ". ", "I", " can", "'t see", "</s>"]
    text = "I can't see. I can't see"
    one = {"text": text, "tokens": tokens, "hallucinated": [[0, 11], [15, 24], [90, 99], "x", [1]]}
    for step, row in ((1, one), (2, {"text": text, "hallucinated": [[0, 3]]}), (3, {"text": text})):
        (tmp_path / "rollouts").mkdir(exist_ok=True)
        line = json.dumps({"id": "a", "completions": [row]})
        (tmp_path / "rollouts" / f"step_{step:06d}.jsonl").write_text(line + "\n")
    groups = collect(load_run(tmp_path)).groups
    spans = [group["completions"][0]["hallucinated"] for group in groups]
    assert spans == [[[1, 3], [6, 7], [0, -1]], [[0, -1]], None]


def test_policy_allows_only_the_two_inline_blocks(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src &#39;none&#39;" in policy
    assert policy.count("sha256-") == 2
    assert "unsafe" not in policy
    assert not re.search(
        r"\sstyle=|\son\w+=", re.sub(r"<script.*?</script>", "", page, flags=re.S).replace(HOSTILE[2], "")
    )


def test_secrets_are_redacted(page: str) -> None:
    assert SECRET not in page
    assert "verifier.api_key = &#34;(redacted)&#34;" in page
    assert "--api-key=(redacted)" in page
    assert "max_tokens = 128" in page


@pytest.mark.parametrize(
    ("name", "secret"),
    [("api_key", True), ("HF_TOKEN", True), ("apiKey", True), ("dbPassword", True), ("client-secret", True),
     ("max_tokens", False), ("critical_tokens", False),
     ("token_level", False), ("monkey", False), ("keys", False)],
)  # fmt: skip
def test_secret_names(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


def test_redaction_reaches_every_depth() -> None:
    given = {"a": [{"token": "t1"}], "url": "https://u:p@h/x", "use_token": True, "k": "Bearer abcdefgh123"}
    assert redact(given) == {
        "a": [{"token": "(redacted)"}], "url": "https://(redacted)@h/x", "use_token": True,
        "k": "Bearer (redacted)",
    }  # fmt: skip
    assert redact_text("run --token abc --lr 3 api_key=x") == "run --token (redacted) --lr 3 api_key=(redacted)"
    assert redact_text("every token counts") == "every token counts"


def test_control_characters_become_pictures() -> None:
    assert visible("a\x1b[31m\x00\u202e\ud800\n") == "a␛[31m␀⟨U+202E⟩⟨U+D800⟩\n"


# Images


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.png", "images/../../secret.png", "link.png", "", None, 3, "a\0b"]
)
def test_image_paths_stay_inside(tmp_path: Path, name: object) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (stage / "link.png").symlink_to(tmp_path / "secret.png")
    assert inside(stage, name) is None
    assert Album().add(stage, name) == "image path leads outside the run and was not opened"


def test_each_distinct_image_is_kept_once_and_only_images_are(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "text.png").write_text("<svg onload=alert(1)>")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    album = Album()
    assert [album.add(tmp_path, name) for name in ("a.png", "b.png")] == [0, 0]
    assert album.add(tmp_path, "text.png") == album.add(tmp_path, "cut.png") == "image file could not be read"
    assert len(album.uris) == 1
    assert album.uris[0].startswith("data:image/png;base64,")


def test_large_images_are_scaled_down(tmp_path: Path) -> None:
    noise = Image.frombytes("RGB", (900, 900), random.Random(0).randbytes(900 * 900 * 3))
    noise.save(tmp_path / "big.png")
    album = Album()
    assert album.add(tmp_path, "big.png") == 0
    assert album.uris[0].startswith("data:image/webp")
    assert len(album.uris[0]) < 900_000


# Size


def test_groups_are_capped_evenly_over_the_steps(tmp_path: Path) -> None:
    run = load_run(make_rl(tmp_path / "grpo", random.Random(1), steps=80, prompts=10))
    rollouts = collect(run, max_groups=16)
    assert (rollouts.found, len(rollouts.groups)) == (80, 16)
    steps = [group["step"] for group in rollouts.groups]
    assert steps == sorted(steps)
    assert all(steps.count(step) == 2 for step in range(10, 81, 10))
    assert sorted({group["step"] for group in collect(run, max_groups=4).groups}) == [10, 30, 50, 70]


def test_bytes_are_capped_and_unused_images_forgotten(tmp_path: Path) -> None:
    run = load_run(make_rl(tmp_path / "grpo", random.Random(1), steps=40, prompts=10))
    rollouts = collect(run, max_bytes=40_000)
    assert 0 < len(rollouts.groups) < rollouts.found
    assert len(embed(rollouts.data())) < 42_000
    assert {index for group in rollouts.groups for index in group["images"]} == set(range(len(rollouts.album.uris)))


def test_page_says_how_many_groups_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seethink.report.page.collect", partial(collect, max_groups=5))
    stage = make_rl(tmp_path / "grpo", random.Random(1), steps=20)
    assert "5 of 12 recorded groups, taken evenly over the steps" in write_report(stage).read_text(encoding="utf-8")


@pytest.mark.slow
def test_page_stays_under_its_limit(tmp_path: Path) -> None:
    stage = make_rl(tmp_path / "grpo", random.Random(1), steps=20, prompts=700, size=24)
    assert (stage / "rollouts" / "step_000010.jsonl").stat().st_size > 8_000_000
    assert write_report(stage).stat().st_size < 15_000_000


# Numbers


def score(domain: str, accuracy: float, stderr: float | None = 0.03, n: int | None = 100, **more: str) -> Score:
    return Score(domain, more.get("difficulty", "all"), more.get("mode", "avg@4"), accuracy, stderr, n, 40.0)


def test_domain_means_and_their_errors() -> None:
    stage = Stage("s", Path(), scores=[score("a", 0.5, 0.03), score("b", 0.7, 0.04)])
    mean = mean_score(stage, ("a", "b", "absent"), "avg@4")
    assert mean is not None
    assert mean.accuracy == pytest.approx(0.6)
    assert mean.stderr == pytest.approx(0.025)
    assert (mean.n, mean.domains) == (200, 2)


def test_difficulties_are_pooled_where_the_whole_is_missing() -> None:
    easy, hard = score("a", 0.9, 0.03, 100, difficulty="easy"), score("a", 0.3, 0.04, 300, difficulty="hard")
    stage = Stage("s", Path(), scores=[easy, hard])
    pooled = domain_score(stage, "a", "avg@4")
    assert pooled is not None
    assert pooled.accuracy == pytest.approx(0.45)
    assert pooled.stderr == pytest.approx(math.hypot(0.25 * 0.03, 0.75 * 0.04))


def test_sentences_claim_nothing_under_two_standard_errors(pipeline: Path) -> None:
    run = load_run(pipeline)
    assert main_mode(run) == "avg@4"
    inside_domain, outside = accuracy_sentences(run)
    assert re.search(r"RL raises it to [\d.]+\xa0±\xa0[\d.]+\xa0% \(\+25\.\d, 9 standard errors\)", inside_domain)
    assert "connector leaves it at" in inside_domain
    assert "mean of 5 domains, avg@4, n = 3,000" in outside


def test_summary_table_prints_without_control_characters(pipeline: Path) -> None:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary_table(pipeline))
    text = console.export_text()
    assert "cold-start" in text
    assert re.search(r"RL\s+│ 70\.\d ± 1\.9 │ 600", text)


# Charts


def test_axes_have_round_ticks() -> None:
    assert linear_axis(0.03, 0.97).ticks == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert linear_axis(5, 5).ticks[0] < 5 < linear_axis(5, 5).ticks[-1]
    assert log_axis(3e-8, 2e-4).ticks == pytest.approx((1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3))
    assert log_axis(0.3, 6).ticks == pytest.approx((0.2, 0.5, 1, 2, 5, 10))
    assert [tick_text(value) for value in (0.2, 0.0002, 1.5e-10, 12000, 0)] == ["0.2", "2e-4", "1.5e-10", "12k", "0"]
    assert tick_text(0.4, percent=True) == "40%"


def test_smoothing_keeps_a_straight_line_and_thinning_keeps_the_mean() -> None:
    line = [(float(step), 2.0 * step) for step in range(40)]
    assert [value for _, value in smooth(line, 9)] == pytest.approx([value for _, value in line])
    thinned = thin([(float(step), float(step % 2)) for step in range(1000)], 100)
    assert len(thinned) == 100
    assert all(value == 0.5 for _, value in thinned)


def test_charts_escape_names_and_survive_odd_values() -> None:
    chart = line_chart([Series("x", [(1, 0.0), (2, -1.0), (3, 1e30)], "a")], HOSTILE[0], log=True)
    assert "<script" not in chart
    assert line_chart([Series("x", [(1, 0.0)], "a")], "n", log=True) == ""
    assert "nan" not in line_chart([Series("x", [(7, 3.0)], "a")], "n")
