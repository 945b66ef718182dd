"""Samples -> token ids, image and video tensors: the one module that knows chat templates and processors."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from PIL import Image
from torch import Tensor

from seethink.config import ReadConfig
from seethink.core.errors import UserError
from seethink.core.types import Prompt, Sample, VideoRef
from seethink.data.control_images import blanked
from seethink.data.fields import IMAGE_MARK, LETTERS, VIDEO_MARK, without_marks
from seethink.data.image_budget import limit_images
from seethink.data.image_tokens import ImageTokens, Sizes
from seethink.data.template import TemplateError, refuse_endless
from seethink.data.video_inputs import NO_VIDEOS, check_frames, check_places, video_inputs

TEXT_KEYS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""What a processor gives for each token; all other tensors are those of images and videos."""
_MARK = re.compile(f"({re.escape(IMAGE_MARK)}|{re.escape(VIDEO_MARK)})")


Positions = Callable[[list[int], dict[str, Tensor]], Tensor | None]
"""(prompt ids, image tensors) -> [3, T] M-RoPE positions, or None where positions simply count."""


class Chat:
    """Turns samples into prompts and responses into ids, with one processor."""

    def __init__(
        self,
        processor: Any,
        positions: Positions | None = None,
        max_images: int | None = None,
        context: int | None = None,
        *,
        takes_videos: bool = False,
    ) -> None:
        """`context`: positions that the language model knows; None: as many as one likes."""
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.template_owner = processor if getattr(processor, "chat_template", None) else self.tokenizer
        self._positions, self.max_images, self.context = positions, max_images, context
        self.takes_videos = takes_videos
        added = [str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        self.special_tokens = tuple(dict.fromkeys([*map(str, self.tokenizer.all_special_tokens), *added]))
        self.eos_id: int = self.tokenizer.eos_token_id
        self.pad_id: int = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.eos_id
        self.image_tokens = ImageTokens(processor, self._image_length)
        self._edit: Callable[[str], str] = str
        self.introduction = ""
        """What the system turn of every prompt ends with."""

    def limit_images(self, config: ReadConfig) -> None:
        """Have images take the tokens that `data.image_*` give them, from here on. Raises UserError."""
        limit_images(self.processor, config)
        self.image_tokens = ImageTokens(self.processor, self._image_length)

    def edited(self, edit: Callable[[str], str]) -> Chat:
        """The same chat with a template text that goes through `edit`, e.g. to begin the assistant's turn."""
        chat = copy(self)
        chat._edit = edit
        return chat

    def introduced(self, text: str) -> Chat:
        """The same chat with a system turn that ends with `text`, e.g. how to call a tool."""
        chat = copy(self)
        chat.introduction = text
        return chat

    def prompt(self, sample: Sample) -> Prompt:
        """The user's turn with images and videos, up to and including the assistant header. Raises UserError."""
        text, pictures = self.template_text(sample), sample.pictures()
        ids, mm_kwargs = self._encoded(text, pictures, sample.videos, special=self.wants_bos(text))
        return Prompt(sample, ids, mm_kwargs, self.positions(ids, mm_kwargs))

    def positions(self, ids: list[int], mm_kwargs: dict[str, Tensor]) -> Tensor | None:
        """[3, T] M-RoPE positions of a prompt; None where positions simply count."""
        return self._positions(ids, mm_kwargs) if self._positions else None

    def reply(self, text: str, pictures: Sequence[Image.Image] = ()) -> tuple[list[int], dict[str, Tensor]]:
        """What the template writes between two turns of the assistant, and the image tensors: the end of the first
        turn, a user's turn of these pictures and this text, and the header of the second.

        Special tokens in the text are left out, as it is data. Raises TemplateError where the template cannot write
        such a turn.
        """
        return self._encoded(self._between(text, len(pictures)), list(pictures), special=False)

    def reply_length(self, text: str, pictures: Sequence[Image.Image] = ()) -> int:
        """Tokens of a reply after a turn that ended itself, without processing the pictures. Raises as `reply` does."""
        ids, _ = self._encoded(self._between(text, len(pictures)), [], special=False)
        return len(ids) - (ids[:1] == [self.eos_id]) + self.image_tokens.of(Sample("reply", "", tuple(pictures)))

    def _between(self, text: str, pictures: int) -> str:
        said = "It is red."
        content = [{"type": "image"}] * pictures + [_text(self.without_special_tokens(text))]
        turns = [
            *self._messages(Sample("reply", "Which colour?")),
            {"role": "assistant", "content": [_text(said)]},
            {"role": "user", "content": content},
        ]
        between = self._rendered("reply", turns, add_generation_prompt=True).partition(said)[2]
        if content[-1]["text"].strip() not in between:
            raise TemplateError("the model's chat template writes no user's turn after an assistant's")
        return between

    def without_special_tokens(self, text: str) -> str:
        """The text without the template's own tokens, which would forge a turn or an image."""
        tokens = [*self.special_tokens, str(getattr(self.processor, "image_token", None) or IMAGE_MARK)]
        while found := [token for token in tokens if token and token in text]:
            text = text.replace(found[0], "")
        return text

    def _encoded(
        self, text: str, pictures: list[Image.Image], videos: Sequence[VideoRef] = (), *, special: bool
    ) -> tuple[list[int], dict[str, Tensor]]:
        """Token ids, image and video tensors. `special`: the tokenizer adds its own beginning of sequence."""
        if not pictures and not videos:
            # Some processors (Q-Formers) write image tokens whether there is an image or not.
            ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
            return ids, {}
        inputs = self._processed(text, pictures, videos, special=special)
        mm_kwargs = {key: value for key, value in inputs.items() if key not in TEXT_KEYS}
        return inputs["input_ids"][0].tolist(), mm_kwargs

    def _processed(self, text: str, pictures: list[Image.Image], videos: Sequence[VideoRef], *, special: bool) -> Any:
        """What the processor makes of a text with a place for each picture and video. Raises UserError."""
        given: dict[str, Any] = {"images": pictures} if pictures else {}
        given |= {"text": [text], "return_tensors": "pt", "add_special_tokens": special}
        if not videos:
            return self.processor(**given)
        check_places(text, self.processor, videos)
        try:
            made = self.processor(**given, **video_inputs(videos))
            check_frames(made, self.processor)
            return made
        except (UserError, MemoryError):
            raise
        except Exception as error:  # processors raise what they like of videos that they do not take
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise UserError(f"the model's processor does not take the video: {said}") from None

    def answered(self, sample: Sample, response: str, *, with_images: bool) -> dict[str, Tensor]:
        """The whole conversation, which nobody goes on with: the tensors that the processor gives, [1, T] per token.

        Without images, turns are plain texts, as templates of language models take them. Raises UserError.
        """
        self._refuse_special(sample.id, response)
        turns = [*self._turns(sample), {"role": "assistant", "content": [_text(response)]}]
        pictures = sample.pictures() if with_images else []
        if sample.videos:
            raise UserError(f"sample {sample.id!r} has a video; reward models see images alone")
        if not with_images:
            turns = [{**turn, "content": "".join(p.get("text", "") for p in turn["content"])} for turn in turns]
        text = self._rendered(sample.id, turns, add_generation_prompt=False)
        images = {"images": pictures} if pictures else {}
        owner = self.processor if pictures else self.tokenizer
        return dict(owner(text=[text], return_tensors="pt", add_special_tokens=self.wants_bos(text), **images))

    def unexpanded_ids(self, prompt: Prompt) -> list[int]:
        """The prompt's ids with one placeholder for each image, as servers take them. Raises UserError."""
        ids = self._text_ids(self.template_text(prompt.sample))
        for said, reply in prompt.turns:
            between, _ = self._encoded(self._between(reply.text, len(reply.images)), [], special=False)
            ids += [*said, *after_turn(said, between)]
        return ids

    def prompt_length(self, sample: Sample) -> int:
        """Tokens of the prompt, image tokens included, without decoding an image. Raises UserError."""
        of_media = self.media_tokens(sample)
        return len(self._text_ids(self.template_text(sample))) + of_media

    def media_tokens(self, sample: Sample) -> int:
        """Tokens that images and videos add to the prompt's text, without decoding one. Raises UserError."""
        if not sample.videos:
            return self.image_tokens.of(sample)
        # Times of frames are text that merges with what stands beside it: only a whole prompt tells its length.
        text, blank = self.template_text(sample), blanked(sample)
        ids, _ = self._encoded(text, blank.pictures(), blank.videos, special=self.wants_bos(text))
        return len(ids) - len(self._text_ids(text))

    def _image_length(self, sizes: Sizes) -> int:
        """Tokens that the processor adds to a text for blank images of these sizes."""
        blanks = [Image.new("RGB", size) for size in sizes]
        text = self.template_text(Sample("sizes", "", tuple(blanks)))
        special = self.wants_bos(text)
        ids = self.processor(images=blanks, text=[text], return_tensors="pt", add_special_tokens=special)["input_ids"]
        return len(ids[0]) - len(self._text_ids(text))

    def _text_ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=self.wants_bos(text))["input_ids"]
        return ids

    def wants_bos(self, text: str) -> bool:
        """Whether the tokenizer must add the beginning-of-sequence token: the template has not written it."""
        bos = self.tokenizer.bos_token
        return not (bos and text.startswith(bos))

    def template_text(self, sample: Sample) -> str:
        """The chat template's text, a placeholder for each image."""
        return self._edit(self._rendered(sample.id, self._turns(sample), add_generation_prompt=True))

    def _turns(self, sample: Sample) -> list[dict[str, Any]]:
        """Raises UserError for what the model cannot be shown."""
        self._refuse_special(sample.id, sample.system, without_marks(sample), *sample.choices)
        if sample.videos and not self.takes_videos:
            raise UserError(f"sample {sample.id!r}: {NO_VIDEOS}")
        if self.max_images is not None and len(sample.images) > self.max_images:
            raise UserError(
                f"sample {sample.id!r} has {len(sample.images)} images; this model takes at most {self.max_images}"
            )
        return self._messages(sample)

    def _rendered(self, name: str, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> str:
        """What the template makes of these turns. Raises TemplateError."""
        self._refuse_endless(messages, add_generation_prompt=add_generation_prompt)
        try:
            return str(
                self.template_owner.apply_chat_template(
                    messages, add_generation_prompt=add_generation_prompt, tokenize=False
                )
            )
        except MemoryError:
            raise
        except Exception as error:  # the template is the model's own code, and raises what it likes
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise TemplateError(f"the model's chat template cannot write the prompt of {name!r}: {said}") from None

    def refuse_endless_template(self) -> None:
        """Raises TemplateError where the chat template does not end, or takes too much memory, on a trial prompt.

        Every later prompt is tried too; this one is for a model that is refused when it is loaded.
        """
        trial = Sample("trial", "2 + 2?", (Image.new("RGB", (28, 28)),))
        self._refuse_endless(self._messages(trial), add_generation_prompt=True)

    def _refuse_endless(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool) -> None:
        template = _chosen_template(self.template_owner)
        if not isinstance(template, str | None):
            raise TemplateError(f"the model's chat template is {type(template).__name__}; expected text")
        if template is not None:
            given = {"messages": messages, "tools": None, "documents": None}
            tokens = self.tokenizer.special_tokens_map
            refuse_endless(template, {**tokens, **given, "add_generation_prompt": add_generation_prompt})

    def _messages(self, sample: Sample) -> list[dict[str, Any]]:
        """The turns of a sample's prompt, as chat templates take them."""
        system = "\n\n".join(filter(None, (sample.system, self.introduction)))
        user = {"role": "user", "content": content_parts(sample)}
        return [{"role": "system", "content": [_text(system)]}, user] if system else [user]

    def _refuse_special(self, name: str, *texts: str) -> None:
        """Raise UserError where a text holds one of the template's own tokens, which would forge a turn or an image."""
        token = self.special_token_in(*texts)
        if token is not None:
            raise UserError(f"sample {name!r} holds the special token {token!r} as text; remove or respell it")

    def special_token_in(self, *texts: str) -> str | None:
        """The first special token that one of the texts holds."""
        return next((token for token in self.special_tokens if any(token in text for text in texts)), None)

    def response_ids(self, response: str) -> list[int]:
        """A response to imitate, its end-of-turn token included."""
        ids: list[int] = self.tokenizer(response, add_special_tokens=False)["input_ids"]
        return [*ids, self.eos_id]

    def turn_end(self) -> str | None:
        """The special token that the template writes after an assistant's turn; None where it writes none.

        Raises TemplateError where the template cannot write such a turn.
        """
        said = "It is red."
        turns = [*self._messages(Sample("turn", "Which colour?")), {"role": "assistant", "content": [_text(said)]}]
        after = self._rendered("turn", turns, add_generation_prompt=False).rpartition(said)[2]
        found = [(after.index(token), -len(token), token) for token in self.special_tokens if token in after]
        return min(found)[2] if found else None

    def decode(self, token_ids: list[int]) -> str:
        """Text of a response without the end-of-turn token; `<think>` stays."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    def token_texts(self, token_ids: list[int]) -> list[str]:
        """Each token by itself, for viewers and for finding critical words."""
        return [str(self.tokenizer.decode([token])) for token in token_ids]


def _chosen_template(owner: Any) -> Any:
    """The template that `owner.apply_chat_template` renders; None where it has none and will say so itself."""
    template = owner.chat_template
    return template.get("default") if isinstance(template, dict) else template


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def content_parts(sample: Sample) -> list[dict[str, str]]:
    """The content parts of a question: images, then videos, come first unless marks say where they stand."""
    text = _with_choices(sample)
    kinds = {IMAGE_MARK: "image"} | ({VIDEO_MARK: "video"} if sample.videos else {})
    first = {IMAGE_MARK: len(sample.images), VIDEO_MARK: len(sample.videos)}
    parts = [{"type": kind} for mark, kind in kinds.items() if mark not in text for _ in range(first[mark])]
    if not any(mark in text for mark in kinds):
        return [*parts, _text(text)]
    run = ""
    for piece in _MARK.split(text):
        if piece not in kinds:
            run += piece
            continue
        parts += [_text(run)] if run else []
        parts.append({"type": kinds[piece]})
        run = ""
    return [*parts, _text(run)] if run else parts


def _with_choices(sample: Sample) -> str:
    """The question, followed by its options unless it already shows each beside its letter."""
    lettered = list(zip(LETTERS, sample.choices, strict=False))
    shown = (rf"(?<![A-Za-z]){letter}\W{{1,4}}{re.escape(choice)}" for letter, choice in lettered)
    if all(re.search(option, sample.question) for option in shown):
        return sample.question
    return sample.question + "".join(f"\n{letter}. {choice}" for letter, choice in lettered)


def after_turn(said: list[int], reply: list[int]) -> list[int]:
    """A reply's ids behind the model's turn, which may have ended itself: the token that ends it stands once."""
    return reply[1:] if reply[:1] == said[-1:] else reply
