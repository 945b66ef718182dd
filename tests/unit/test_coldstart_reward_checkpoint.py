"""A reward model in this process: its scores are plain transformers', stored with its digest, and survive a kill."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.asking import by_number, picture, problems, thought
from helpers.command_line import Finished, run_command
from helpers.reward_heads import save_image_reward, save_text_reward
from helpers.scripted_openai import ScriptedOpenAI, says
from helpers.verifying import hurry  # noqa: F401
from seethink.coldstart import reward_checkpoint
from seethink.coldstart.questions import Question
from seethink.coldstart.records import Records
from seethink.coldstart.reward_checkpoint import checkpoint_digest, score_by_checkpoint
from seethink.coldstart.reward_model import StoredReward, read_stored
from seethink.config.coldstart import ColdstartConfig
from seethink.data.template import TemplateError
from seethink.models import reward_head
from seethink.models.load import NANO, ModelError
from seethink.models.reward_head import load_reward_head, reward_class

pytestmark = pytest.mark.usefixtures("hurry")
TRACES = 9


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = save_text_reward(tmp_path_factory.mktemp("reward") / "rm")
    return folder


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks of several batches each, from few traces."""
    monkeypatch.setattr(reward_checkpoint, "CHUNK", 5)
    monkeypatch.setattr(reward_head, "BATCH_TOKENS", 600)


def question(number: int, images: Sequence[str] = ()) -> Question:
    name, digests = f"q{number}", ["0" * 64 for _ in images]
    return Question(name, name, f"How much is {number}?", str(number), images=[*images], digests=digests)


def traces() -> list[tuple[str, Question, str]]:
    """Of uneven lengths; one holds the template's own token, one is longer than the model's context."""
    said = [thought(n).replace("I look", "I look " * (1 + 7 * n % 11)) for n in range(TRACES)]
    said[2] += "<|im_end|>"
    said[6] *= 40
    return [(f"t{n}", question(n), text) for n, text in enumerate(said)]


def stored(folder: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, (folder / "rewards.jsonl").read_text().splitlines())


def score(checkpoint: Path, folder: Path) -> None:
    with Records[StoredReward](folder / "rewards.jsonl", read_stored) as records:
        score_by_checkpoint(str(checkpoint), "me", folder, traces(), records)


def plain_score(folder: Path, messages: list[dict[str, Any]], images: Sequence[Any] = ()) -> float:
    """A forward of one conversation in float64, without any code of ours."""
    from transformers import AutoModelForSequenceClassification, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64).eval()
    text = processor.apply_chat_template(messages, tokenize=False)
    given = {"images": [*images]} if images else {}
    inputs = processor(text=[text], return_tensors="pt", add_special_tokens=False, **given)
    inputs = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
    with torch.no_grad():
        return float(model(**inputs).logits[0, 0])


def test_scores_are_those_of_a_plain_forward(checkpoint: Path, tmp_path: Path) -> None:
    score(checkpoint, tmp_path)
    found = {record["key"]: record for record in stored(tmp_path)}
    assert found.keys() == {f"t{n}" for n in range(TRACES)}
    assert {key for key, record in found.items() if record["reward"] is None} == {"t2", "t6"}
    for key, one, text in traces():
        assert found[key]["by"] == "me"
        if found[key]["reward"] is not None:
            turns = [{"role": "user", "content": one.question}, {"role": "assistant", "content": text}]
            assert found[key]["reward"] == pytest.approx(plain_score(checkpoint, turns), abs=2e-5)


def test_a_killed_process_goes_on_to_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    """An append is whole or torn off, so a kill leaves some first lines, and perhaps a piece of the next."""
    score(checkpoint, tmp_path)
    whole = (tmp_path / "rewards.jsonl").read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    assert len(ends) == TRACES
    for end in (0, *ends[1:-1:3]):
        (tmp_path / "rewards.jsonl").write_bytes(whole[: end + 7])
        score(checkpoint, tmp_path)
        assert (tmp_path / "rewards.jsonl").read_bytes() == whole, end


@pytest.mark.parametrize("family", ["gemma3", pytest.param("qwen3_5", marks=pytest.mark.slow)])
def test_a_model_that_takes_images_sees_them(family: str, tmp_path: Path) -> None:
    folder = save_image_reward(family, tmp_path / "rm")
    for number in range(2):
        picture(number).save(tmp_path / f"{number}.png")
    shown = [("a", question(0, ["0.png"]), "It is red."), ("b", question(0, ["1.png"]), "It is red, and blue.")]
    with Records[StoredReward](tmp_path / "rewards.jsonl", read_stored) as records:
        score_by_checkpoint(str(folder), "me", tmp_path, [*shown, ("c", question(0), "It is red.")], records)
        rewards = {key: records.summaries[key].reward for key in "abc"}
    for place, (key, one, text) in enumerate(shown):
        content: list[dict[str, Any]] = [{"type": "image"}, {"type": "text", "text": one.question}]
        turns: list[dict[str, Any]] = [{"role": "user", "content": content}, {"role": "assistant", "content": text}]
        assert rewards[key] == pytest.approx(plain_score(folder, turns, [picture(place)]), abs=5e-5)
    assert len(set(rewards.values())) == 3
    assert load_reward_head(str(folder)).takes_images


def test_what_is_no_reward_model_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    assert reward_class(str(checkpoint)) == "Qwen2ForSequenceClassification"
    two = save_text_reward(tmp_path / "two", labels=2)
    with pytest.raises(ModelError, match="expected one label, found 2: Qwen2ForSequenceClassification gives classes"):
        reward_class(str(two))
    with pytest.raises(ModelError, match=r"ForSequenceClassification with one label\), found InternVL"):
        reward_class(str(NANO))
    pickled = save_text_reward(tmp_path / "pickled")
    torch.save({}, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="pickle"):
        reward_class(str(pickled))
    mute = save_text_reward(tmp_path / "mute")
    (mute / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        load_reward_head(str(mute))
    server = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
    (mute / "chat_template.jinja").write_text("{{ raise_exception('no system text') }}")
    with pytest.raises(TemplateError, match="no system text"):
        load_reward_head(str(mute)).encode(question(1).sample(None), "It is 1.")
    with pytest.raises(ValueError, match="give one"):
        ColdstartConfig.model_validate({"reward_model": server, "reward_checkpoint": "rm"})


def test_the_digest_is_that_of_weights_and_template(checkpoint: Path, tmp_path: Path) -> None:
    again, other = save_text_reward(tmp_path / "again"), save_text_reward(tmp_path / "other", seed=1)
    assert checkpoint_digest(str(again)) == checkpoint_digest(str(checkpoint)) != checkpoint_digest(str(other))
    with (again / "chat_template.jinja").open("a") as file:
        file.write(" ")
    assert checkpoint_digest(str(again)) != checkpoint_digest(str(checkpoint))


def test_the_command_takes_the_best_and_does_not_mix_models(checkpoint: Path, tmp_path: Path) -> None:
    source = problems(tmp_path / "q", 3)
    other = save_text_reward(tmp_path / "other", seed=1)

    def run(*words: str) -> Finished:
        return run_command("coldstart", str(source), "-o", "out", *words, cwd=tmp_path)

    with ScriptedOpenAI(by_number({2: lambda ask: says(thought(2, 1))})) as server:
        words = ["--teacher", server.base_url, "--model", "m", "coldstart.val_share=0"]
        two = run(*words, f"coldstart.reward_checkpoint={save_text_reward(tmp_path / 'two', labels=2)}")
        assert (two.returncode, len(server.asks)) == (2, 0), "before the teacher is paid"
        assert two.stderr.count("\n") == 1
        dry = run(*words, f"coldstart.reward_checkpoint={checkpoint}", "--dry-run")
        assert f"{checkpoint} (Qwen2ForSequenceClassification), in this process" in dry.stdout.replace("\n", " ")
        assert run(*words, f"coldstart.reward_checkpoint={checkpoint}").returncode == 0
        first = {record["key"]: record for record in stored(tmp_path / "out")}
        assert {record["by"] for record in first.values()} == {checkpoint_digest(str(checkpoint))}
        assert len(first) == 2, "the right ones alone"
        assert "rm (" + checkpoint_digest(str(checkpoint))[:12] in (tmp_path / "out/data/README.md").read_text()
        low = min(record["reward"] for record in first.values())
        assert run("--refilter", f"coldstart.min_reward={low + 1e-6}").returncode == 0
        reasons = json.loads((tmp_path / "out/data/funnel.json").read_text())["first_reasons"]
        assert reasons == {"wrong_answer": 1, "low_reward": 1}
        assert run(*words, f"coldstart.reward_checkpoint={other}").returncode == 0
        latest = {record["key"]: record for record in stored(tmp_path / "out")}
        assert {record["by"] for record in latest.values()} == {checkpoint_digest(str(other))}
