"""Recipes: what is refused and how it is said, overrides, and that no key is dead."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.command_line import run_command
from seethink.config import (
    FOREIGN,
    PARTS,
    Recipe,
    RecipeError,
    load_recipe,
    make_recipe,
    part_lr,
    recipe_keys,
    saved_recipe,
)
from seethink.config.load import MOVED
from seethink.doctor.run import diagnose

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
SECTIONS = {"data", "parts", "lora", "optim", "sft", "rollout", "algorithm", "ppo", "reward", "blindness", "eval"}
SECTIONS |= {"checkpoint", "log", "watchdogs", "cluster", "vllm"}


def minimal(*overrides: str) -> dict[str, Any]:
    """A recipe of a stage that reads the overrides' sections."""
    stage = "grpo" if {word.partition(".")[0] for word in overrides} & set(FOREIGN["sft"]) else "sft"
    return {"name": "x", "stage": stage, "out": "runs/x", "data": {"train": "world:math:traces"}}


def refused(*overrides: str) -> str:
    with pytest.raises(RecipeError) as error:
        make_recipe(minimal(*overrides), list(overrides))
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("optim.lrr=1e-4", "optim.lr"),
        ("optim.warmup=0.1", "optim.warmup_ratio"),
        ("rollout.groupsize=4", "rollout.group_size"),
        ("learning.rate=1", None),
        ("sead=1", "seed"),
        ("reward.verifier.urll='http://x'", None),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(wrong: str, right: str | None) -> None:
    message = refused(wrong)
    assert wrong.partition("=")[0].split(".")[0] in message
    if right is not None:
        assert f"unknown key '{wrong.partition('=')[0]}'; did you mean '{right}'?" in message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.lr=fast", "optim.lr: Input should be a valid number"),
        ("optim.lr=0", "optim.lr: Input should be greater than 0 (got 0)"),
        ("optim.lr=nan", "optim.lr: "),
        ("optim.lr=inf", "optim.lr: "),
        ("optim.lr=-1e-4", "optim.lr: "),
        ("seed=1.5", "seed: "),
        ("seed=-1", "seed: Input should be greater than or equal to 0 (got -1)"),
        ("stage=dpo", "stage: Input should be 'sft', 'grpo' or 'ppo' (got 'dpo')"),
        ("rollout.group_size=1", "rollout.group_size: Input should be greater than 1 (got 1)"),
        ("parts.train=[]", "parts.train: "),
        ('parts.train=["eyes"]', "parts.train.0: Input should be 'vision', 'connector' or 'language' (got 'eyes')"),
        ("name=a/../b", "name: "),
        ("optim=3", "optim: "),
        ("eval.greedy=perhaps", "eval.greedy: "),
        ("algorithm.curriculum=[[1.5,['hard']]]", "share 1.5"),
        ("rollout.length_schedule=[[-0.1,8]]", "share -0.1"),
        ("vllm.urls=['ftp://a']", "vllm.urls.0: expected the http(s) address"),
        ("vllm.urls=['http://me:secret@a']", "vllm.urls.0: an address must hold no user name"),
        ("algorithm.mismatch_cap=1", "algorithm.mismatch_cap: Input should be greater than 1"),
        ("algorithm.minibatches=33", "algorithm.minibatches=33 exceeds rollout.prompts_per_step=32"),
    ],
)
def test_a_wrong_value_is_refused_and_shown(override: str, said: str) -> None:
    assert said in refused(override)


def test_all_mistakes_are_said_at_once() -> None:
    message = refused("optim.lrr=1", "seed=x", "sft.epochs=0")
    assert all(key in message for key in ("optim.lrr", "seed", "sft.epochs"))


@pytest.mark.parametrize("missing", ["name", "stage", "out", "data"])
def test_what_is_required_is_said(missing: str) -> None:
    table = minimal()
    del table[missing]
    with pytest.raises(RecipeError, match=f"'{missing}' is required"):
        make_recipe(table)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optim.lr=1e-6", 1e-6),
        ("optim.lr=3", 3.0),
        ("model=runs/a/step_000001", "runs/a/step_000001"),
        ("model='nano'", "nano"),
        ("out=runs/a=b", "runs/a=b"),
        ('parts.train=["connector"]', ("connector",)),
        (
            "algorithm.curriculum=[[0.0,['easy']],[0.5,['normal','hard']]]",
            ((0.0, ("easy",)), (0.5, ("normal", "hard"))),
        ),
        ("rollout.length_schedule=[[0.5, 8192]]", ((0.5, 8192),)),
        ("eval.greedy=false", False),
        ("data.train_size=12", 12),
        ("log.critical_words=['Hm']", ("Hm",)),
        ("reward.function=my.rewards:grade", "my.rewards:grade"),
    ],
)
def test_overrides(override: str, value: object) -> None:
    found: Any = make_recipe(minimal(override), [override])
    for key in override.partition("=")[0].split("."):
        found = getattr(found, key)
    assert found == value
    assert type(found) is type(value)


def test_the_last_override_wins_and_spaces_do_not_matter() -> None:
    assert make_recipe(minimal(), ["seed=1", " seed = 2"]).seed == 2


@pytest.mark.parametrize("word", ["seed", "=1", "", "--lr"])
def test_a_word_that_is_no_override_is_refused(word: str) -> None:
    assert "is not of the form key=value" in refused(word)


def test_a_value_cannot_be_used_as_a_section() -> None:
    assert "seed.x: 'seed' is a value, not a section" in refused("seed=1", "seed.x=2")


def test_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe at"):
        load_recipe(tmp_path / "none.toml")
    for content in (b"name = ", b"\xff\xfe"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(RecipeError, match=r"bad\.toml is not a readable TOML file"):
            load_recipe(tmp_path / "bad.toml")
    with pytest.raises(RecipeError, match="is not a readable TOML file"):
        load_recipe(tmp_path)
    (tmp_path / "short.toml").write_text("stage = 'sft'\n")
    with pytest.raises(RecipeError, match=r"short.toml: .*'name' is required"):
        load_recipe(tmp_path / "short.toml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_round_trip(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    again = make_recipe(json.loads(json.dumps(recipe.as_table())))
    assert again == recipe
    assert path.read_text(encoding="utf-8").startswith("#"), "a recipe says what it is"


def test_there_are_recipes_for_every_stage_of_the_pipeline() -> None:
    assert {"nano-coldstart", "nano-grpo", "nano-connector"} <= {path.stem for path in RECIPES}


def test_recipes_cannot_be_changed_once_made() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_recipe(minimal()).seed = 1  # type: ignore[misc]


def test_rates_of_parts_default_to_the_common_one() -> None:
    recipe = make_recipe(minimal(), ["optim.lr=1e-3", "parts.lr.vision=1e-5"])
    assert [part_lr(part, recipe.parts, recipe.optim) for part in PARTS] == [1e-5, 1e-3, 1e-3]


def test_defaults_are_the_papers() -> None:
    recipe = make_recipe(minimal())
    assert (recipe.algorithm.clip_low, recipe.algorithm.clip_high, recipe.algorithm.kl_beta) == (0.2, 0.2, 0.0)
    assert (recipe.algorithm.epochs, recipe.algorithm.minibatches) == (1, 1)
    assert (recipe.reward.accuracy_weight, recipe.reward.format_weight) == (0.8, 0.2)
    assert recipe.parts.train == ("vision", "connector", "language")
    assert recipe.trust_remote_code is False


def own_keys() -> list[str]:
    return list(recipe_keys())


def test_every_key_is_read_somewhere() -> None:
    """No dead options: each key's name is an attribute that code outside seethink.config takes."""
    files = [p for p in (ROOT / "src/seethink").rglob("*.py") if p.parent.name != "config"]
    source = "\n".join(p.read_text(encoding="utf-8") for p in files)
    config = (ROOT / "src/seethink/config/recipe.py").read_text(encoding="utf-8")
    by_method = set(re.findall(r"self\.parts\.(lr_\w+)", config))
    dead = [
        key
        for key in own_keys()
        if not re.search(rf"\.{key.rpartition('.')[2]}\b", source) and key.rpartition(".")[2] not in by_method
    ]
    assert not dead


def test_every_key_has_a_description() -> None:
    assert [key for key, description in recipe_keys().items() if not description.strip()] == []


def test_the_keys_are_few_and_known() -> None:
    """A new key needs a line here: expose as few as possible."""
    listed = (ROOT / "tests/data/golden/recipe_keys.txt").read_text(encoding="utf-8").split()
    assert own_keys() == listed
    assert len(listed) <= 165
    assert {key.split(".")[0] for key in listed if "." in key} == SECTIONS


def test_the_configuration_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, seethink.config, seethink.cli.main; "
        "print([m for m in ('torch', 'transformers', 'pyarrow') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_keys_of_a_section_that_may_be_absent_are_listed() -> None:
    assert any(key.startswith("reward.verifier.") for key in recipe_keys())
    assert set(Recipe.model_fields) == {key.split(".")[0] for key in recipe_keys()}


@pytest.mark.parametrize(
    ("stage", "section"),
    [
        ("sft", "vllm"),
        ("sft", "rollout"),
        ("sft", "algorithm"),
        ("sft", "ppo"),
        ("grpo", "sft"),
        ("grpo", "ppo"),
        ("ppo", "sft"),
    ],
)
def test_a_section_that_the_stage_does_not_read_is_refused(stage: str, section: str) -> None:
    with pytest.raises(RecipeError, match=rf"stage '{stage}' does not read \[{section}\]: remove the section"):
        make_recipe(minimal() | {"stage": stage, section: {}})
    assert section not in make_recipe(minimal() | {"stage": stage}).as_table()


def test_a_key_that_is_gone_says_what_holds_instead() -> None:
    assert "99th percentile" in refused("log.entropy_quantile=0.95")


@pytest.mark.parametrize(("old", "new"), sorted(MOVED.items()))
def test_the_message_of_a_moved_key_names_its_place(old: str, new: str) -> None:
    assert f"unknown key '{old}'; it is '{new}' now" in refused(f"{old}=1")
    assert new in recipe_keys() or new.rpartition(".")[0] in recipe_keys()


def test_the_recipe_of_an_earlier_run_folder_is_read() -> None:
    """recipe.json held every section, the stage's own or not, and some keys had other places."""
    table = minimal() | {
        "stage": "grpo",
        "sft": {"pack_length": 320, "epochs": 2},
        "ppo": {"gamma": 1.0},
        "optim": {"lr": 1e-4, "beta1": 0.8, "beta2": 0.95},
        "parts": {"lr_vision": 1e-6, "lr_connector": None, "lr_language": None},
        "log": {"entropy_quantile": 0.99},
    }
    recipe = saved_recipe(table)
    assert (recipe.optim.pack_length, recipe.optim.betas, recipe.parts.lr) == (320, (0.8, 0.95), {"vision": 1e-6})
    assert saved_recipe(recipe.as_table()) == recipe


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("eval.every=5",), "eval.every needs eval.data"),
        (("eval.data=world:math", "checkpoint.best_metric=eval/math/accuracy"), "needs eval.every"),
        (("eval.data=world:math", "eval.every=20", "checkpoint.best_metric=eval/math/accuracy"), "is no multiple of"),
    ],
)
def test_an_evaluation_that_would_not_happen_is_refused(overrides: tuple[str, ...], said: str) -> None:
    assert said in refused(*overrides)


@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "endless"])
def test_a_recipe_that_is_no_file_is_neither_awaited_nor_read_to_no_end(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r.toml"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    said = "bytes, more than" if kind == "endless" else f"is a {kind}, where a file was expected"
    with pytest.raises(RecipeError, match=said):
        load_recipe(path)
    report = diagnose(path, [])
    (check,) = report.checks
    assert said in check.found


@pytest.mark.parametrize("seed", [-1, 2**64, 2**70, -(2**63)])
def test_seeds_that_no_generator_takes_are_refused_before_the_work(tmp_path: Path, seed: int) -> None:
    with pytest.raises(RecipeError, match="seed"):
        make_recipe({"name": "a", "stage": "sft", "out": "o", "data": {"train": "d"}, "seed": seed})
    for words in (["eval", "nano"], ["world", "make", "a.parquet"], ["quickstart", "--out", "q"], ["modes", "nano"]):
        ended = run_command(*words, "--seed", str(seed), cwd=tmp_path)
        assert ended.returncode == 2
        assert "--seed" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_the_largest_seed_is_one() -> None:
    make_recipe({"name": "a", "stage": "sft", "out": "o", "data": {"train": "d"}, "seed": 2**64 - 1})
    torch.manual_seed(2**64 - 1)


def test_where_vllm_samples_the_mismatch_is_corrected_by_default() -> None:
    by_default = make_recipe(minimal("rollout.engine=vllm"), ["rollout.engine=vllm"])
    assert (by_default.algorithm.mismatch_correction, by_default.algorithm.mismatch_cap) == ("token", 2.0)
    words = ["rollout.engine=vllm", "algorithm.mismatch_correction=off"]
    assert make_recipe(minimal(*words), words).algorithm.mismatch_correction == "off"
    assert make_recipe(minimal("rollout.top_p=1")).algorithm.mismatch_correction == "off"
    assert make_recipe(by_default.as_table()) == by_default


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rollout.engine=in_process"], "a process that trains cannot sample"),
        (["rollout.engine=vllm", "algorithm.mismatch_correction=off"], "set mismatch_correction='token'"),
        (["rollout.engine=vllm", "rollout.environment=calculator"], "not sampled in the background"),
        (["rollout.engine=vllm", "rollout.ahead=2"], r"rollout\.ahead"),
    ],
)
def test_rollouts_ahead_where_they_cannot_be_right_are_refused(words: list[str], said: str) -> None:
    words = ["rollout.ahead=1", *words]
    with pytest.raises(RecipeError, match=said):
        make_recipe(minimal(*words), words)
    right = ["rollout.ahead=1", "rollout.engine=vllm"]
    assert make_recipe(minimal(*right), right).rollout.ahead == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "read with rollout.engine='vllm' alone"),
        (["rollout.engine=vllm", "rollout.ahead=1"], "servers sample while training"),
        (["rollout.engine=vllm", "vllm.weight_sync=nccl"], "NCCL joins no two processes on one GPU"),
        (["rollout.engine=vllm", "vllm.sleep=3"], r"vllm\.sleep"),
        (
            ["rollout.engine=vllm", "vllm.send=trained", "vllm.weight_sync=nccl"],
            "keeps no weights to merge others into",
        ),
    ],
)
def test_servers_that_cannot_sleep_are_refused(words: list[str], said: str) -> None:
    words = ["vllm.sleep=2", *words]
    with pytest.raises(RecipeError, match=said):
        make_recipe(minimal(*words), words)


@pytest.mark.parametrize(
    ("word", "said"), [("rollout.top_p=0.9", "set top_p=1"), ("rollout.temperature=2.5", "vLLM takes at most 2")]
)
def test_what_a_server_samples_otherwise_is_refused(word: str, said: str) -> None:
    assert said in refused("rollout.engine=vllm", word)
    make_recipe(minimal(word), [word])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rollout.environment=shell"], "rollout.environment: Input should be 'calculator' or 'zoom'"),
        (["rollout.environment=zoom"], "set optim.shared_prompt=false"),
        (
            ["rollout.environment=zoom", "algorithm.token_measure=image", "algorithm.token_share=0.5"],
            "leaves the crops",
        ),
        (["rollout.turns=3"], "rollout.turns is read with rollout.environment alone"),
        (["rollout.turn_tokens=3"], "rollout.turn_tokens is read with rollout.environment alone"),
        (["rollout.environment=calculator", "rollout.turns=1"], "rollout.turns"),
    ],
)
def test_what_does_not_go_with_a_tool_is_refused(words: list[str], said: str) -> None:
    assert said in refused(*words)


def test_a_recipe_with_a_tool_round_trips() -> None:
    words = ["rollout.environment=zoom", "rollout.turns=3", "optim.shared_prompt=false"]
    made = make_recipe(minimal(*words), words)
    assert saved_recipe(made.as_table()) == made
    assert saved_recipe(make_recipe(minimal("rollout.top_p=1")).as_table()).rollout.turns is None


def test_an_address_is_kept_without_the_path_of_the_openai_interface() -> None:
    words = ["vllm.urls=['http://127.0.0.1:8000/v1/', 'https://b:1']"]
    assert make_recipe(minimal(*words), words).vllm.urls == ("http://127.0.0.1:8000", "https://b:1")
