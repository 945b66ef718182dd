"""The inference modes: slow thinking, NoThink, NoWait and thinking budgets (paper 6.2, 6.3).

A mode is a set of sampling rules, an edit of the chat template and a longest response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seethink.config import LogConfig, split_names
from seethink.core.errors import UserError
from seethink.data.chat import Chat
from seethink.entropy.critical import spellings
from seethink.generate.in_process.rules import CloseThinking, Forbid
from seethink.generate.protocol import LogitsRule
from seethink.models.forward import output_head
from seethink.models.load import LoadedModel
from seethink.rewards.format import CLOSE, OPEN

MODES = ("slow", "nothink", "nowait")


@dataclass(frozen=True, slots=True)
class ModesConfig:
    """What is compared. Rows depend on these settings, the model and the items, and on nothing else."""

    modes: tuple[str, ...] = MODES
    budgets: tuple[int, ...] = ()
    """Thinking tokens; each budget is tried both with the block closed by force and with the response cut off."""
    samples: int = 4
    """Completions per item."""
    max_new_tokens: int = 160
    answer_tokens: int = 32
    """Tokens for the answer after a block that was closed at its budget."""
    words: tuple[str, ...] = ()
    """The words that NoWait forbids."""
    opening: str = ""
    """Text that every NoThink response begins with: see docs/modes.md."""
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Variant:
    """One mode. At a budget, `</think>` is written where `forced`; otherwise the response ends there."""

    mode: str
    budget: int | None = None
    forced: bool = False

    @property
    def label(self) -> str:
        return self.mode if self.budget is None else f"{self.budget} {'closed' if self.forced else 'cut'}"


def make_config(modes: str, budgets: str, words: str, **settings: Any) -> ModesConfig:
    """The configuration from the command line's comma-separated lists. Raises UserError."""
    try:
        numbers = tuple(sorted({int(budget) for budget in split_names(budgets)}))
    except ValueError:
        raise UserError(f"--budgets {budgets!r}: expected numbers of tokens, e.g. 8,16,32") from None
    critical = split_names(words) or LogConfig().critical_words
    names = tuple(dict.fromkeys(split_names(modes)))
    return ModesConfig(names, numbers, words=critical, **settings)


def check_config(config: ModesConfig) -> None:
    """Raise UserError for unknown modes, for none at all, and for budgets beyond the longest response."""
    strange = [mode for mode in config.modes if mode not in MODES]
    if strange:
        raise UserError(f"no mode {strange[0]!r}; choose from {', '.join(MODES)}")
    if not config.modes and not config.budgets:
        raise UserError("nothing to compare: name modes or budgets")
    too_long = [budget for budget in config.budgets if not 0 < budget < config.max_new_tokens]
    if too_long:
        raise UserError(
            f"a budget of {too_long[0]} is not between 0 and the longest response, {config.max_new_tokens} tokens: "
            "lower the budget or raise --max-new-tokens"
        )


def planned_draws(config: ModesConfig) -> list[tuple[Variant, list[Variant]]]:
    """(mode to sample, modes measured on its responses). A response cut at a budget is the slow one's beginning."""
    slow, cut = Variant("slow"), [Variant("budget", budget) for budget in config.budgets]
    draws = [(slow, [*([slow] if "slow" in config.modes else []), *cut])]
    draws += [(v, [v]) for v in (Variant(mode) for mode in config.modes if mode != "slow")]
    return draws + [(v, [v]) for v in (Variant("budget", budget, forced=True) for budget in config.budgets)]


def mode_rules(loaded: LoadedModel, config: ModesConfig, variant: Variant) -> tuple[tuple[LogitsRule, ...], int]:
    """(sampling rules of a mode, its longest response in tokens)."""
    chat = loaded.chat
    if variant.mode == "nothink":
        return (Forbid({*spellings(chat, [OPEN]), _ids(chat, OPEN)}),), config.max_new_tokens
    if variant.mode == "nowait":
        return (Forbid(spellings(chat, config.words)),), config.max_new_tokens
    if variant.budget is not None:
        close, texts = (
            _ids(chat, CLOSE),
            chat.token_texts(list(range(len(output_head(loaded.model).get_parameter("weight"))))),
        )
        return (CloseThinking(variant.budget, close, texts),), variant.budget + len(close) + config.answer_tokens
    return (), config.max_new_tokens


def without_think(text: str) -> str:
    """A template's text without the `<think>` that opens the assistant's turn; most templates write none."""
    before, opened, after = text.rpartition(OPEN)
    return before if opened and not after.strip() else text


def _ids(chat: Chat, text: str) -> tuple[int, ...]:
    return tuple(chat.tokenizer(text, add_special_tokens=False)["input_ids"])
