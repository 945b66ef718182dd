"""Bad arguments of the Python API: each is a UserError that names the argument; strings stand for paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import seethink
from seethink import Sample, UserError

SAMPLES = [Sample("a", "What is 6 times 7?", answer="42")]
NOTHING: Any = None
"""In place of a model: arguments are looked at first."""
GENERATE = ("generate", NOTHING, SAMPLES)
EVALUATE = ("evaluate", NOTHING, SAMPLES)
ENTROPY = ("measure_entropy", NOTHING, SAMPLES)
SELECT = ("select_checkpoint", "nowhere")
LOAD = ("load_samples", "world:math")

BAD: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    (LOAD, {"split": "dev", "size": 1}, "split must be one of train, val, test, not 'dev'"),
    (LOAD, {"size": 0}, "size must be a whole number of at least 1, not 0"),
    (LOAD, {"size": "ten"}, "size must be a whole number"),
    (LOAD, {"size": True}, "size must be a whole number"),
    (LOAD, {"size": 1, "seed": -1}, "seed must be a whole number of at least 0, not -1"),
    (LOAD, {"size": 1, "seed": 2**64}, "seed must be below 2^64"),
    (("load_samples", "world:nope"), {"size": 1}, "no domain 'nope'"),
    (("generate", NOTHING, SAMPLES[0]), {}, "prompts must be a list"),
    (("generate", NOTHING, ["What is it?"]), {}, "prompts must be a list of Sample or Prompt"),
    (GENERATE, {"group_size": 0}, "group_size must be"),
    (GENERATE, {"max_new_tokens": 0}, "max_new_tokens must be"),
    (GENERATE, {"max_new_tokens": 1.5}, "max_new_tokens must be"),
    (GENERATE, {"temperature": -1}, "temperature must be a finite number of at least 0"),
    (GENERATE, {"temperature": float("nan")}, "temperature must be"),
    (GENERATE, {"top_p": 0}, "top_p must be a finite number above 0"),
    (GENERATE, {"top_p": 1.5}, "top_p must be"),
    (GENERATE, {"seed": -1}, "seed must be"),
    (GENERATE, {"seed": (0, "x")}, "seed must be"),
    (("evaluate", NOTHING, SAMPLES[0]), {}, "samples must be a list of Sample"),
    (("evaluate", NOTHING, "abc"), {}, "samples must be a list of Sample"),
    (("evaluate", NOTHING, []), {}, "samples is empty"),
    (EVALUATE, {"responses": 0}, "responses must be"),
    (EVALUATE, {"temperature": "hot"}, "temperature must be"),
    (EVALUATE, {"max_new_tokens": -3}, "max_new_tokens must be"),
    (EVALUATE, {"seed": 0.5}, "seed must be"),
    (("measure_entropy", NOTHING, [1]), {}, "samples must be a list of Sample, but holds 1"),
    (ENTROPY, {"words": "Wait"}, "words must be a list of str, not 'Wait': give"),
    (ENTROPY, {"words": [1]}, "words must be a list of str"),
    (ENTROPY, {"responses": -1}, "responses must be"),
    (SELECT, {}, "no run folder at nowhere"),
    (SELECT, {"by": "nope"}, "there is no such criterion; choose from critical_entropy"),
    (SELECT, {"in_domain": "math"}, "in_domain must be a list of str"),
    (SELECT, {"size": 0}, "size must be"),
    (SELECT, {"seed": -1}, "seed must be"),
    (("token_entropy", NOTHING), {"temperature": 0}, "temperature must be a finite number above 0"),
    (("train", "recipe.toml"), {}, "recipe must be a Recipe, not 'recipe.toml': load_recipe reads one"),
    (("train", {"stage": "sft"}), {}, "recipe must be a Recipe"),
    (("load_model", "nano"), {"dtype": "int8"}, "dtype must be one of float32, bfloat16, not 'int8'"),
    (("load_model", 3), {}, "no model '3'"),
    (("export_run", "nowhere", "out"), {}, "no run folder at nowhere"),
    (("export_run", "nowhere", "out"), {"dtype": "int8"}, "dtype must be one of bfloat16, float16, float32"),
    (("grade_file", "nowhere.jsonl"), {}, "nowhere.jsonl"),
    (("write_report", "nowhere"), {}, "nowhere"),
    (("load_recipe", "nowhere.toml"), {}, "no recipe at nowhere.toml"),
    (("grade", "42", "42", "nope"), {}, "answer_type: expected one of number"),
    (("grade", "42", ""), {}, "gold answer"),
]


@pytest.mark.parametrize(("call", "options", "said"), BAD)
def test_a_bad_argument_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *given = call
    with pytest.raises((UserError, ValueError, OSError)) as caught:
        getattr(seethink, name)(*given, **options)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_allowed_keys_are_a_list(tmp_path: Path) -> None:
    recipe = seethink.make_recipe(
        {"name": "x", "stage": "sft", "out": str(tmp_path / "run"), "data": {"train": "world:math:traces"}}
    )
    with pytest.raises(UserError, match="allow must be a list of str, not 'data'"):
        seethink.train(recipe, allow="data")
    assert not (tmp_path / "run").exists()


def test_strings_stand_for_paths(tmp_path: Path) -> None:
    cases, out = tmp_path / "cases.jsonl", tmp_path / "verdicts.jsonl"
    cases.write_text(json.dumps({"prediction": "42", "gold": "42"}) + "\n")
    assert seethink.grade_file(str(cases), str(out)).verdicts == {"correct": 1}  # type: ignore[arg-type]
    assert out.is_file()
    (tmp_path / "half_reward.py").write_text("def half(response, sample):\n    return 0.5\n")
    config = seethink.RewardConfig(function="half_reward:half")
    with seethink.Rewarder(config, run_folder=str(tmp_path), function_folder=str(tmp_path)) as rewarder:  # type: ignore[arg-type]
        assert rewarder.grade([(SAMPLES[0], "42")])[0].accuracy == 0.5
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "6 times 7?", "answer": "42"}) + "\n{}\n")
    read = seethink.load_samples(
        rows,
        config=seethink.ReadConfig(max_bad_share=1.0),
        quarantine=str(tmp_path / "bad.jsonl"),  # type: ignore[arg-type]
    )
    assert len(read) == 1
    assert (tmp_path / "bad.jsonl").is_file()
