"""Chat template, image places, ends of turns: what goes wrong here is silent in training."""

from __future__ import annotations

import contextlib
from typing import Any

from PIL import Image

from seethink.core.errors import UserError
from seethink.core.types import Prompt, Sample
from seethink.data.chat import Chat
from seethink.data.template import TemplateError
from seethink.doctor.check import Report, Status
from seethink.models.forward import image_token_id
from seethink.models.load import stop_token_ids

SECTION = "model"
THINK = "<think>a</think>b"
VIEW = (448, 448)
"""Size of the picture that is tried."""


def check_tokens(report: Report, model: Any, chat: Chat, banned: tuple[int, ...]) -> bool:
    """Whether a prompt with an image can be made at all."""
    prompt = _try_prompt(report, chat)
    if prompt is None:
        return False
    _check_image_places(report, model, chat, prompt)
    _check_ends(report, model, chat, banned)
    _check_thinking(report, chat)
    _check_vocabulary(report, model, chat)
    return True


def _try_prompt(report: Report, chat: Chat) -> Prompt | None:
    if not getattr(chat.template_owner, "chat_template", None):
        advice = "copy chat_template.jinja of the original model beside the weights; a base model has none: use an "
        report.add(SECTION, "chat template", Status.FAIL, "there is none", f"{advice}instruction-tuned one")
        return None
    sample = Sample("doctor", "What is this?", (Image.new("RGB", VIEW),))
    try:
        prompt = chat.prompt(sample)
    except Exception as error:  # templates and processors are the model's own code, and raise what they like
        found = f"a question with one image cannot be put: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        advice = "use the processor and the chat template of the original model"
        report.add(SECTION, "processor", Status.FAIL, found, advice)
        return None
    width, height = VIEW
    found = f"{type(chat.processor).__name__} with chat template; an image of {width}x{height} and a short question"
    report.add(SECTION, "processor", Status.PASS, f"{found} are {len(prompt.input_ids)} tokens")
    return prompt


def _check_image_places(report: Report, model: Any, chat: Chat, prompt: Prompt) -> None:
    place = image_token_id(model.config)
    count = prompt.input_ids.count(place)
    token = chat.tokenizer.convert_ids_to_tokens(place)
    if not prompt.mm_kwargs or not count:
        found = f"the prompt has {count} image tokens {token!r} and {'' if prompt.mm_kwargs else 'no '}pixels"
        advice = "processor and config.json must be of the same checkpoint: the model would not see its images"
        report.add(SECTION, "image token", Status.FAIL, found, advice)
    else:
        report.add(SECTION, "image token", Status.PASS, f"{token!r} ({place}), {count} for that image", count=count)


def _check_ends(report: Report, model: Any, chat: Chat, banned: tuple[int, ...]) -> None:
    if chat.eos_id is None:
        advice = "set eos_token in tokenizer_config.json to the token that ends a turn"
        report.add(SECTION, "end of turn", Status.FAIL, "the tokenizer has no end-of-sequence token", advice)
        return
    try:
        stops = stop_token_ids(model, chat)
    except UserError as error:
        report.add(
            SECTION, "end of turn", Status.FAIL, str(error), "take generation_config.json from the original model"
        )
        return
    names = ", ".join(f"{chat.tokenizer.convert_ids_to_tokens(i)!r}" for i in stops)
    both = sorted(set(stops) & set(banned))
    if both:
        found = f"{chat.tokenizer.convert_ids_to_tokens(both[0])!r} ends a turn and is an image token at once"
        advice = "correct eos_token_id in generation_config.json: it can never be sampled, so no response would end"
        report.add(SECTION, "end of turn", Status.FAIL, found, advice)
        return
    trained = str(chat.tokenizer.convert_ids_to_tokens(chat.eos_id))
    about: dict[str, Any] = {
        "stop_ids": list(stops),
        "banned_ids": list(banned),
        "trained": trained,
        "template": _turn_end(chat),
    }
    found = f"training ends a response with {trained!r}, generation stops at {names}"
    if about["template"] in (None, trained):
        found += f"; {len(banned)} image and video tokens are never sampled"
        report.add(SECTION, "end of turn", Status.PASS, found, **about)
        return
    advice = (
        f"set eos_token in tokenizer_config.json to {about['template']!r}, so that SFT teaches the token by which the "
        "model ends its turns, and name it in generation_config.json's eos_token_id"
    )
    found += f", but the chat template ends an assistant's turn with {about['template']!r}"
    report.add(SECTION, "end of turn", Status.WARN, found, advice, **about)


def _turn_end(chat: Chat) -> str | None:
    """What the template writes after a turn; None too where it cannot write one."""
    with contextlib.suppress(TemplateError):
        return chat.turn_end()
    return None


def _check_thinking(report: Report, chat: Chat) -> None:
    """The format reward reads the decoded text: tags that decoding drops could never be rewarded."""
    said = chat.decode(chat.response_ids(THINK)[:-1])
    if said.replace(" ", "") == THINK:
        report.add(SECTION, "think tags", Status.PASS, "<think> and </think> come back from decoding")
        return
    advice = "make the tags ordinary tokens in tokenizer.json (special: false), or the format reward is always 0"
    report.add(SECTION, "think tags", Status.FAIL, f"{THINK!r} comes back as {said!r}", advice)


def _check_vocabulary(report: Report, model: Any, chat: Chat) -> None:
    rows, words = model.get_input_embeddings().weight.shape[0], len(chat.tokenizer)
    if words > rows:
        found = f"the tokenizer has {words:,} tokens, the model embeds {rows:,}"
        advice = "use the tokenizer of this checkpoint: the surplus tokens would crash the forward"
        report.add(SECTION, "vocabulary", Status.FAIL, found, advice)


def vision_tokens(model: Any, prompt: Prompt) -> int:
    """Patches that the vision encoder sees in a prompt."""
    pixels = [prompt.mm_kwargs[key] for key in ("pixel_values", "pixel_values_videos") if key in prompt.mm_kwargs]
    config = getattr(model.config, "vision_config", None)
    if config is None:
        return 0
    size = getattr(config, "patch_size", 14)
    side = size[0] if isinstance(size, list | tuple) else size
    depth = getattr(config, "temporal_patch_size", 1)
    return sum(tensor.numel() for tensor in pixels) // (3 * side * side * depth)
