"""`seethink doctor` on bad recipes, models and disks: what would stop a run is known before it starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file, save_file

from helpers.doctoring import examine, good_rows, named, one, worst, write_rows
from seethink.doctor.check import Report, Status


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "d.jsonl", good_rows(tmp_path, 8))


@pytest.fixture
def copied(tmp_path: Path, random_nano: Path) -> Path:
    return Path(shutil.copytree(random_nano, tmp_path / "model"))


def look(tmp_path: Path, model: Path, data: Path, *words: str) -> Report:
    return examine(tmp_path, f"model={model}", *words, data=data)


def test_all_mistakes_of_a_recipe_at_once(tmp_path: Path, data: Path) -> None:
    words = [
        "optim.lrr=1",
        "rollout.group_sise=2",
        "sft.epochs=2",
        "optim.lr=fast",
        "dtype=int8",
        "seed",
        "lora.parts=['vision']",
    ]
    report = examine(tmp_path, *words, "parts.train=['language']", data=data)
    said = {c.name: (c.status, c.found) for c in report.checks if c.section == "recipe"}
    assert said["optim.lrr"] == (Status.FAIL, "unknown key 'optim.lrr'; did you mean 'optim.lr'?")
    assert said["rollout.group_sise"] == (
        Status.FAIL, "unknown key 'rollout.group_sise'; did you mean 'rollout.group_size'?"
    )  # fmt: skip
    assert said["sft"][1].startswith("stage 'grpo' does not read [sft]: remove the section")
    assert said["optim.lr"][0] is said["dtype"][0] is said["override"][0] is said["consistency"][0] is Status.FAIL
    assert "vision, which parts.train leaves frozen" in said["consistency"][1]
    assert one(report, "data.train", "rows").status is Status.PASS, "the rest is still looked at"


def test_a_recipe_of_which_nothing_is_left(tmp_path: Path) -> None:
    from seethink.doctor.run import diagnose

    (tmp_path / "r.toml").write_text("name = 'x'\nstage = 'sft'\nout = 'o'\n")
    report = diagnose(tmp_path / "r.toml", [])
    assert one(report, "recipe", "data").found == "'data' is required"
    assert one(report, "recipe", "rest").status is Status.SKIP
    assert one(diagnose(tmp_path / "none.toml", []), "recipe", "file").status is Status.FAIL
    (tmp_path / "r.toml").write_text("name = \n")
    assert "not readable TOML" in one(diagnose(tmp_path / "r.toml", []), "recipe", "file").found


def test_a_model_that_is_not_there(tmp_path: Path, data: Path) -> None:
    check = one(look(tmp_path, tmp_path / "none", data), "model", "source")
    assert check.status is Status.FAIL
    assert "train the stage before this one first" in check.advice


def test_a_text_model_has_no_connector(tmp_path: Path, copied: Path, data: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    text = config["text_config"] | {"architectures": ["Qwen2ForCausalLM"]}
    (copied / "config.json").write_text(json.dumps(text))
    check = one(look(tmp_path, copied, data), "model", "parts")
    assert check.status is Status.FAIL
    assert "without vision encoder and connector" in check.found
    assert "use a vision-language checkpoint" in check.advice


def test_a_model_whose_connector_is_nowhere(tmp_path: Path, copied: Path, data: Path) -> None:
    modules = ["parts.modules.vision=['model.vision_tower','model.multi_modal_projector']"]
    modules += ["parts.modules.connector=['model.bridge']", "parts.modules.language=['model.language_model','lm_head']"]
    check = one(look(tmp_path, copied, data, *modules), "model", "parts")
    assert check.status is Status.FAIL
    assert "no parameters in connector: no module is named model.bridge" in check.found
    assert "[parts.modules]" in check.advice


def test_weights_without_the_connector(tmp_path: Path, copied: Path, data: Path) -> None:
    weights = {k: v for k, v in load_file(copied / "model.safetensors").items() if "multi_modal_projector" not in k}
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    check = one(look(tmp_path, copied, data), "model", "weights")
    assert check.status is Status.FAIL
    assert "the connector would start from random numbers" in check.found
    assert all("multi_modal_projector" in name for name in check.data["missing"])


def test_tensors_of_another_model(tmp_path: Path, copied: Path, data: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    weights["model.stranger.weight"] = next(iter(weights.values())).clone()
    save_file(weights, copied / "model.safetensors", {"format": "pt"})
    check = one(look(tmp_path, copied, data), "model", "weights")
    assert check.status is Status.FAIL
    assert "model.stranger.weight" in check.found


@pytest.mark.parametrize(
    ("damage", "said", "advice"),
    [
        ("cut", "is cut off: ", "copy or download the file again"),
        ("header", "has no readable header", "copy or download the file again"),
        ("lfs", "is a Git LFS pointer", "git lfs pull"),
        ("empty", "is not a safetensors file", "copy or download the file again"),
        ("pickle", "pickled weights can run code", "safetensors"),
        ("none", "no model.safetensors", "download the weights too"),
        ("shard", "is missing, which model.safetensors.index.json names", "copy or download the model again"),
    ],
)
def test_damaged_weights(tmp_path: Path, copied: Path, data: Path, damage: str, said: str, advice: str) -> None:
    weights = copied / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "header":
        weights.write_bytes(weights.read_bytes()[:500])
    elif damage == "lfs":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    elif damage == "empty":
        weights.write_bytes(b"")
    else:
        weights.unlink()
    if damage == "pickle":
        (copied / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    if damage == "shard":
        table = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
        (copied / "model.safetensors.index.json").write_text(json.dumps(table))
    found = [c for c in named(look(tmp_path, copied, data), "model", "weights") if said in c.found]
    assert len(found) == 1
    assert found[0].status is Status.FAIL
    assert advice in found[0].advice


def test_code_that_comes_with_a_model_is_named_and_not_run(tmp_path: Path, copied: Path, data: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    auto = {"AutoConfig": "code.Config", "AutoModelForImageTextToText": "code.Model"}
    (copied / "config.json").write_text(json.dumps(config | {"model_type": "theirs", "auto_map": auto}))
    (copied / "code.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'touched')!r}).touch()\n")
    check = one(look(tmp_path, copied, data), "model", "code")
    assert check.status is Status.FAIL
    assert "trust_remote_code" in check.advice
    assert not (tmp_path / "touched").exists()


def test_a_processor_that_is_missing(tmp_path: Path, copied: Path, data: Path) -> None:
    for file in copied.glob("token*"):
        file.unlink()
    report = look(tmp_path, copied, data)
    assert one(report, "model", "processor").status is Status.FAIL
    assert one(report, "data.train", "prompt lengths").status is Status.SKIP
    assert one(report, "data.train", "rows").status is Status.PASS


def test_no_chat_template(tmp_path: Path, copied: Path, data: Path) -> None:
    (copied / "chat_template.jinja").unlink()
    check = one(look(tmp_path, copied, data), "model", "chat template")
    assert check.status is Status.FAIL


def test_a_turn_that_cannot_end(tmp_path: Path, copied: Path, data: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    generation = copied / "generation_config.json"
    generation.write_text(json.dumps({"eos_token_id": config["image_token_id"]}))
    check = one(look(tmp_path, copied, data), "model", "end of turn")
    assert check.status is Status.FAIL
    assert "no response would end" in check.advice


def test_think_tags_that_decoding_drops(tmp_path: Path, copied: Path, data: Path) -> None:
    tokenizer = json.loads((copied / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        if "think" in token["content"]:
            token["special"] = True
    (copied / "tokenizer.json").write_text(json.dumps(tokenizer))
    if not any("think" in token["content"] for token in tokenizer["added_tokens"]):
        pytest.skip("the tags are no tokens of their own here")
    check = one(look(tmp_path, copied, data), "model", "think tags")
    assert check.status is Status.FAIL
    assert "format reward is always 0" in check.advice


def test_disk_too_small(tmp_path: Path, copied: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=10**9, used=0, free=50 * 10**6))
    check = one(look(tmp_path, copied, data), "disk", "checkpoints")
    assert check.status is Status.FAIL
    assert check.data["needed"] > 50 * 10**6
    assert "lower checkpoint.keep" in check.advice


def test_out_that_cannot_be_used(tmp_path: Path, data: Path) -> None:
    (tmp_path / "run").write_text("")
    assert one(examine(tmp_path, data=data), "out", "folder").status is Status.FAIL


def test_out_with_another_run(tmp_path: Path, data: Path) -> None:
    from helpers.doctoring import GRPO
    from seethink.config import load_recipe

    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("{}\n")
    assert one(examine(tmp_path, data=data), "out", "folder").status is Status.WARN
    other = load_recipe(GRPO, ["model=nano", f"out={folder}", "seed=7"])
    (folder / "recipe.json").write_text(other.model_dump_json())
    check = one(examine(tmp_path, data=data), "out", "folder")
    assert check.status is Status.FAIL
    assert "seed" in check.found


def test_a_card_that_is_too_small(tmp_path: Path, data: Path) -> None:
    report = examine(tmp_path, data=data, gpus="2x0.08")
    check = one(report, "memory", "fits")
    assert check.status is Status.FAIL
    assert "optim.gradient_checkpointing=true" in check.advice
    assert "cluster.trainers=2" in one(report, "memory", "all GPUs").advice
    assert one(examine(tmp_path, data=data, gpus="1x80"), "memory", "fits").status is Status.PASS


def test_a_rate_for_a_frozen_part(tmp_path: Path, data: Path) -> None:
    report = examine(tmp_path, "parts.train=['language']", "parts.lr.vision=1e-5", data=data)
    assert one(report, "parts", "rates").status is Status.WARN


def test_a_verifier_without_its_key(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    words = ["reward.verifier.base_url='http://127.0.0.1:9/v1'", "reward.verifier.model=judge"]
    unset = examine(tmp_path, *words, "reward.verifier.api_key_env=NO_SUCH_KEY", data=data)
    assert one(unset, "reward", "verifier").status is Status.FAIL
    assert one(examine(tmp_path, *words, data=data), "reward", "verifier").status is Status.INFO
    asked = one(examine(tmp_path, *words, data=data, ask_verifier=True), "reward", "verifier")
    assert asked.status is Status.FAIL


def test_a_reward_function_that_is_nowhere(tmp_path: Path, data: Path) -> None:
    report = examine(tmp_path, "reward.function=nowhere:f", data=data)
    assert [check.name for check in worst(report)] == ["reward.function"]


def test_a_template_that_ends_turns_by_another_token_than_the_tokenizer(
    tmp_path: Path, copied: Path, data: Path
) -> None:
    """As Gemma's: eos_token is not the token that ends a turn, and SFT would teach the wrong one."""
    check = one(look(tmp_path, copied, data), "model", "end of turn")
    assert check.status is Status.PASS
    assert check.found.startswith("training ends a response with '<|im_end|>', generation stops at '<|im_end|>'")
    config = json.loads((copied / "tokenizer_config.json").read_text())
    (copied / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|endoftext|>"}))
    check = one(look(tmp_path, copied, data), "model", "end of turn")
    assert check.status is Status.WARN
    assert "training ends a response with '<|endoftext|>'" in check.found
    assert check.found.endswith("but the chat template ends an assistant's turn with '<|im_end|>'")
    assert "set eos_token in tokenizer_config.json to '<|im_end|>'" in check.advice
    assert check.data["template"] == "<|im_end|>"
