"""`data.image_*`: tokens of an image, who obeys, and who refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.command_line import run_command
from helpers.families import picture, save_family
from helpers.family_processors import WORDS, build_processor, build_tokenizer
from helpers.nano import nano_recipe
from seethink.config import ReadConfig, RecipeError, make_reading, make_recipe
from seethink.config.coldstart_file import coldstart_settings
from seethink.core.errors import UserError
from seethink.core.types import Sample
from seethink.data.chat import Chat
from seethink.data.image_budget import limit_images, processor_options
from seethink.data.lengths import processor_identity
from seethink.dist.servers import server_command
from seethink.doctor.check import Report, Status
from seethink.doctor.fit import data_load
from seethink.doctor.model import check_model
from seethink.models.forward import image_token_id
from seethink.models.load import NANO, load_model, load_recipe_model
from seethink.models.scorer import TokenScorer
from seethink.rl.batching import Batcher, given_responses

WIDE = (120, 60)


def chat_of(family: str) -> Chat:
    return Chat(build_processor(family, build_tokenizer(WORDS[family])))


def tokens(chat: Chat, size: tuple[int, int] = WIDE) -> int:
    """Of one image, as the processor makes them and as they are counted without it."""
    sample = Sample("s", "Q?", (picture(1, size),))
    prompt = chat.prompt(sample)
    assert chat.prompt_length(sample) == len(prompt.input_ids)
    return prompt.input_ids.count(chat.processor.image_token_id)


@pytest.mark.parametrize(("tiles", "views"), [(1, 1), (2, 3), (3, 3), (8, 9), (None, 3)])
def test_tiles_of_internvl(tiles: int | None, views: int) -> None:
    """A picture of 2:1 has 2 x 1 tiles, or 4 x 2 where they are allowed and it is large; 4 tokens each."""
    chat = chat_of("internvl")
    chat.limit_images(ReadConfig(image_tiles=tiles))
    assert tokens(chat, (120, 60) if views < 9 else (240, 120)) == 4 * views


@pytest.mark.parametrize("family", ["cohere2_vision", "ovis2"])
def test_tiles_of_the_other_families(family: str) -> None:
    one, more = chat_of(family), chat_of(family)
    one.limit_images(ReadConfig(image_tiles=1))
    more.limit_images(ReadConfig(image_tiles=2))
    sample = Sample("s", "Q?", (picture(1, WIDE),))
    lengths = [(chat.prompt_length(sample), len(chat.prompt(sample).input_ids)) for chat in (one, more)]
    assert [counted == made for counted, made in lengths] == [True, True]
    assert lengths[1][0] - lengths[0][0] in (9, 10), "two more views of 4 tokens, and what stands between them"


@pytest.mark.parametrize(
    ("limits", "area"),
    [({"image_max_pixels": 3000}, (5, 2)), ({"image_min_pixels": 9000, "image_max_pixels": 30000}, (10, 5))],
)
@pytest.mark.parametrize("family", ["qwen2_5_vl", "glm4v"])
def test_pixels_of_qwen_and_glm(family: str, limits: dict[str, int], area: tuple[int, int]) -> None:
    """120 x 60 pixels are 9 x 4 tokens of 14 x 14, and fewer or more to keep within the limits."""
    chat = chat_of(family)
    count = tokens(chat, (120, 60))
    chat.limit_images(ReadConfig(**limits))
    assert tokens(chat) == math.prod(area)
    assert tokens(chat) != count, "and what was counted before is forgotten"


@pytest.mark.parametrize(
    ("family", "key", "said"),
    [
        (
            "llava",
            "image_tiles",
            r"the model's processor \(LlavaProcessor\) has no such option; it takes no data.image_\* key",
        ),
        ("internvl", "image_max_pixels", r"processor \(InternVLProcessor\) .* takes data.image_tiles"),
        (
            "qwen2_5_vl",
            "image_tiles",
            r"processor \(Qwen2_5_VLProcessor\) .* takes data.image_min_pixels and data.image_max_pixels",
        ),
        ("gemma4", "image_min_pixels", r"processor \(Gemma4Processor\) .* takes no data.image_\* key"),
    ],
)
def test_a_key_that_the_family_lacks_is_refused(family: str, key: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"data.{key}=2: .*{said}"):
        chat_of(family).limit_images(ReadConfig.model_validate({key: 2}))


def test_a_processor_of_another_kind_is_left_alone() -> None:
    tokenizer = build_tokenizer(WORDS["llava"])
    limit_images(tokenizer, ReadConfig())
    with pytest.raises(UserError, match=r"takes no data.image_\* key"):
        limit_images(tokenizer, ReadConfig(image_tiles=2))


def test_limits_that_contradict_are_refused() -> None:
    with pytest.raises(UserError, match="at least 9,999 and at most 3,920 pixels"):
        chat_of("qwen2_5_vl").limit_images(ReadConfig(image_min_pixels=9999))
    with pytest.raises(RecipeError, match="image_tiles"):
        make_reading(["data.image_tiles=0"])


def test_the_saved_processor_has_the_limits(tmp_path: Path) -> None:
    from transformers import AutoProcessor

    for family, limits in {"internvl": {"image_tiles": 1}, "qwen2_5_vl": {"image_max_pixels": 3000}}.items():
        chat = chat_of(family)
        before = processor_identity(chat)
        chat.limit_images(ReadConfig.model_validate(limits))
        chat.processor.save_pretrained(tmp_path / family)
        saved = Chat(AutoProcessor.from_pretrained(tmp_path / family))
        assert tokens(saved) == tokens(chat) < tokens(chat_of(family))
        assert processor_identity(saved) == processor_identity(chat) != before, "lengths are kept apart"


def test_servers_are_started_with_the_same_options(tmp_path: Path) -> None:
    def words(model: str, *given: str) -> Any:
        wanted = nano_recipe(model, "rollout.engine=vllm", *given)
        command = server_command(wanted, "127.0.0.1", 1, on_gpu=False)
        place = command.index("--mm-processor-kwargs") if "--mm-processor-kwargs" in command else None
        return None if place is None else json.loads(command[place + 1])

    assert words("nano") is None
    assert words("nano", "data.image_tiles=3") == {"crop_to_patches": True, "min_patches": 1, "max_patches": 3}
    processor = build_processor("qwen2_5_vl", build_tokenizer(WORDS["qwen2_5_vl"]))
    limit_images(processor, ReadConfig(image_max_pixels=3000))
    options = processor_options(processor)
    assert options == {"size": {"shortest_edge": 784, "longest_edge": 3000}}
    plain = build_processor("qwen2_5_vl", build_tokenizer(WORDS["qwen2_5_vl"]))
    assert len(plain.image_processor([picture(1, WIDE)], **options)["pixel_values"]) == 4 * 10


def test_commands_that_have_no_use_for_them_say_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a teacher is sent pictures as they are"):
        coldstart_settings(None, ["data.image_tiles=2"])
    done = run_command(
        "eval", "--server", "http://127.0.0.1:1/v1", "--model", "m", "--bench", "wemath", "--data", ".",
        "data.image_tiles=2", cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a server has a processor of its own" in done.stderr
    for step in (1, 2):
        (tmp_path / "run/checkpoints").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"run/checkpoints/step_{step:06}").symlink_to(NANO)
    done = run_command("select", "run", "--data", "world:math", "data.image_tiles=2", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "a checkpoint's own processor says" in done.stderr


@pytest.mark.parametrize("command", ["eval", "eval --bench wemath", "modes", "entropy", "hallucination"])
def test_commands_that_measure_a_model_hand_them_to_its_processor(command: str, tmp_path: Path) -> None:
    name, *options = command.split()
    data = "." if options else "world:math"
    done = run_command(name, "nano", *options, "--data", data, "data.image_max_pixels=9999", cwd=tmp_path)
    assert done.returncode == 2
    assert "processor (InternVLProcessor) has no such option" in done.stderr


def test_the_doctor_counts_them() -> None:
    def told(*words: str) -> tuple[Status, str]:
        report, recipe = Report(), nano_recipe("nano", *words)
        check_model(report, recipe)
        (found,) = (check for check in report.checks if check.name == "image tokens")
        return found.status, found.found

    counts = "448x448: 21, 1344x896: 21, 896x2688: 17"
    assert told("data.image_tiles=4") == (Status.INFO, f"tokens of an image under data.image_*: {counts}")
    status, said = told("data.image_max_pixels=9999")
    assert status is Status.FAIL
    assert "processor (InternVLProcessor) has no such option" in said
    for tiles, tokens_of_one in ((1, 4), (4, 20)):
        recipe = nano_recipe("nano", f"data.image_tiles={tiles}")
        loaded = load_recipe_model(recipe)
        load, _ = data_load(recipe, loaded.model, loaded.chat, None)
        assert load.image_tokens == tokens_of_one, "of which activations are made up"


@pytest.mark.parametrize(
    ("family", "limits", "options"),
    [
        ("internvl", {"image_tiles": 8}, {"crop_to_patches": True, "min_patches": 1, "max_patches": 8}),
        ("qwen2_5_vl", {"image_max_pixels": 3000}, {"size": {"shortest_edge": 784, "longest_edge": 3000}}),
    ],
)
def test_logprobs_are_those_of_plain_transformers_with_the_same_options(
    family: str, limits: dict[str, int], options: dict[str, Any], tmp_path: Path
) -> None:
    folder, image = save_family(family, tmp_path / "model"), picture(3, (240, 120))
    recipe = make_recipe(
        {"name": "n", "stage": "sft", "model": str(folder), "out": "o", "data": {"train": "x", **limits}}
    )
    loaded = load_recipe_model(recipe)
    response = loaded.chat.response_ids("It is red.")
    prompt = loaded.chat.prompt(Sample("s", "Which colour?", (image,)))
    batcher = Batcher(micro_tokens=1, pack_length=0, pad_id=loaded.chat.pad_id, device=loaded.device)
    (batch,) = batcher.batches(given_responses([(prompt, response)]))
    with torch.no_grad():
        logprobs = TokenScorer(loaded)(batch).logprobs
    inputs, expected = _plain(folder, image, response, options, list(loaded.banned_ids))
    assert prompt.input_ids == inputs[: len(prompt.input_ids)]
    assert prompt.input_ids.count(image_token_id(loaded.model.config)) == {"internvl": 36, "qwen2_5_vl": 10}[family]
    torch.testing.assert_close(logprobs, expected, atol=2e-5, rtol=0)
    assert load_model(str(folder)).chat.prompt_length(prompt.sample) != len(prompt.input_ids)


def _plain(
    folder: Path, image: Image.Image, response: list[int], options: dict[str, Any], banned: list[int]
) -> tuple[list[int], Tensor]:
    """(ids, log-probabilities of the response among the ids that may be sampled) without any code of ours."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    content = [{"type": "image"}, {"type": "text", "text": "Which colour?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    inputs = processor(images=[image], text=[text], return_tensors="pt", images_kwargs=options)
    count = len(response)
    tail = torch.tensor([response])
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tail], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tail)], 1)
    with torch.no_grad():
        logits = model(**inputs).logits[0, -count - 1 : -1].float()
    logits[:, banned] = -torch.inf
    return inputs["input_ids"][0].tolist(), logits.log_softmax(-1).gather(1, tail[0, :, None])[:, 0]
