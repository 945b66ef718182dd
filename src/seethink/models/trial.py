"""Proves the parts of a family that models/structure.py found, when a model is loaded: three checks on one picture.

1. The parts feed each other: what enters the connector depends on the vision encoder's weights, and what enters the
   language model on the connector's, by autograd.
2. The trainer's forward (models/forward.py) gives the logits of transformers' own forward.
3. A response does not change what the prompt predicts: without that neither decoding nor a shared prompt is exact.

Letters: T tokens, N the tokens of a response, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_leaves

from seethink.config import Part
from seethink.core.types import Prompt, Sample
from seethink.data.chat import Chat
from seethink.models.forward import beside_weights, hidden_states, logit_scale, to_logits, without_head
from seethink.models.parts import PartsError, family_of, split_parts

SIDE = 112
"""Width and height of the picture, in pixels."""
TOLERANCE = 1e-3
"""Share of the largest logit by which two orders of the same float32 sums may differ."""
ADVICE = "name its modules in the recipe's [parts.modules] if you know better"


def prove(model: Any, chat: Chat) -> None:
    """Raises PartsError where the parts do not feed each other, or seethink's forward is not transformers' own."""
    picture = Image.radial_gradient("L").resize((SIDE, SIDE)).convert("RGB")
    sample = Sample("trial", "2 + 2?", (picture,))
    try:
        prompt = chat.prompt(sample)
        _prove_order(model, prompt)
        with torch.no_grad():
            _prove_forward(model, chat, prompt)
    except PartsError:
        raise
    except Exception as error:  # whatever the model's code raises at its first forward is the finding
        said = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise PartsError(f"its parts were found, but a trial on one picture fails: {said}") from error


class _EnteredError(Exception):
    """The language model was reached; its layers need not run."""


def _prove_order(model: Any, prompt: Prompt) -> None:
    """Vision -> connector -> language, by the gradients of what enters the last two."""
    weights = {part: list(named.values()) for part, named in split_parts(model).items()}
    order: tuple[tuple[Part, Part], ...] = (("vision", "connector"), ("connector", "language"))
    ids = torch.tensor([prompt.input_ids], device=model.device)
    with torch.enable_grad(), _watched(model) as entering:
        with suppress(_EnteredError):
            hidden_states(model, ids, _positions(prompt, 0).to(model.device), _on(model, prompt.mm_kwargs))
        for giver, taker in order:
            needing = [t for t in entering[taker] if t.requires_grad]
            sums = [t.sum() for t in needing]
            found = torch.autograd.grad(sums, weights[giver], retain_graph=True, allow_unused=True) if sums else ()
            if all(gradient is None for gradient in found):
                raise PartsError(
                    f"its parts were found, but what enters its {taker} ({', '.join(family_of(model).paths(taker))}) "
                    f"does not come from its {giver} ({', '.join(family_of(model).paths(giver))}); {ADVICE}"
                )


@contextmanager
def _watched(model: Any) -> Iterator[dict[Part, list[Tensor]]]:
    """Note the tensors that enter connector and language model; the forward ends at the latter."""
    family, named = family_of(model), dict(model.named_modules())
    entering: dict[Part, list[Tensor]] = {"connector": [], "language": []}

    def noting(part: Part) -> Callable[..., None]:
        def note(_: Any, args: Any, kwargs: Any) -> None:
            leaves = tree_leaves((args, kwargs))
            entering[part] += [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
            if part == "language":
                raise _EnteredError

        return note

    connectors = [m for path in family.connector if path in named for m in named[path].modules()]
    handles = [module.register_forward_pre_hook(noting("connector"), with_kwargs=True) for module in connectors]
    body = without_head(named[family.language[0]])
    handles.append(body.register_forward_pre_hook(noting("language"), with_kwargs=True))
    try:
        yield entering
    finally:
        for handle in handles:
            handle.remove()


def _prove_forward(model: Any, chat: Chat, prompt: Prompt) -> None:
    """The trainer's logits are those of transformers, and the prompt's do not depend on the response."""
    response = chat.response_ids("4")
    ids = torch.tensor([[*prompt.input_ids, *response]], device=model.device)
    hidden = hidden_states(model, ids, _positions(prompt, len(response)).to(model.device), _on(model, prompt.mm_kwargs))
    ours = to_logits(model, hidden[:, -len(response) - 1 :])
    alone, theirs = (_plain(model, chat, prompt, added) for added in ([], response))
    largest = theirs.abs().max()
    # transformers' own forward may lack the scale of `to_logits`.
    off = min(
        float((ours / scale - theirs).abs().max()) for scale in (1.0, logit_scale(model.config.get_text_config()))
    )
    if off > TOLERANCE * largest:
        raise PartsError(
            "its parts were found, but its own forward gives other logits than ids, positions and images alone do: by "
            f"{off:.2g}, of at most {float(largest):.2g}; it needs an entry in the table"
        )
    if (alone[:, -1] - theirs[:, 0]).abs().max() > TOLERANCE * largest:
        raise PartsError("what its prompts predict depends on the response after them: it cannot be decoded exactly")


def _plain(model: Any, chat: Chat, prompt: Prompt, response: list[int]) -> Tensor:
    """[1, N + 1, V] logits of transformers' own forward, of the prompt's last token and of the response."""
    text, pictures = chat.template_text(prompt.sample), prompt.sample.pictures()
    special = chat.wants_bos(text)
    given = chat.processor(images=pictures, text=[text], return_tensors="pt", add_special_tokens=special)
    inputs = {key: value for key, value in given.items() if isinstance(value, Tensor)}
    for key in inputs:
        if key in ("input_ids", "attention_mask") or key.endswith("token_type_ids"):
            tail = response if key == "input_ids" else [int(key == "attention_mask")] * len(response)
            inputs[key] = torch.cat([inputs[key], torch.tensor([tail], dtype=inputs[key].dtype)], dim=1)
    logits: Tensor = model(**beside_weights(model, _on(model, inputs))).logits[:, -len(response) - 1 :]
    return logits


def _positions(prompt: Prompt, more: int) -> Tensor:
    """[1, T] positions of the prompt and of `more` tokens after it; [4, 1, T] with M-RoPE."""
    plain = torch.arange(len(prompt.input_ids) + more)[None]
    if prompt.rope_ids is None:
        return plain
    after = prompt.rope_ids[:, -1:] + 1 + torch.arange(more)
    return torch.cat([plain, torch.cat([prompt.rope_ids, after], dim=1)])[:, None]


def _on(model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.to(model.device) for key, tensor in tensors.items()}
