"""The rules of a `Sampling` as functions of the logits: sequences that cannot be drawn, a budget for thinking.

The paper's inference modes (6.2, 6.3) are made of them. All rows are treated at once, without Python for each row.
Letters: R rows, T tokens, V vocabulary, S sequences, C characters of a tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from seethink.generate.protocol import Forbid, ForkTemperature, Rule, ThinkingBudget
from seethink.models.forward import vocabulary_size
from seethink.models.load import LoadedModel

NOTHING = float("-inf")

LogitsRule = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits_RV, drawn_RT, lengths_R) -> logits_RV: what a rule lets through, given the ids drawn so far.

`drawn_RT` is -1 beyond a row's length.
"""


def logits_rules(rules: Sequence[Rule], loaded: LoadedModel) -> list[LogitsRule]:
    """The functions that apply `rules` to this model's logits, in their order."""
    return [_logits_rule(rule, loaded) for rule in rules]


def _logits_rule(rule: Rule, loaded: LoadedModel) -> LogitsRule:
    match rule:
        case Forbid(sequences):
            return ForbidSequences(sequences)
        case ThinkingBudget(tokens, close, close_ids):
            texts = loaded.chat.token_texts(list(range(vocabulary_size(loaded.model))))
            return CloseThinking(tokens, close, close_ids, texts)
        case ForkTemperature():
            return ChangeTemperature(rule)


class ForbidSequences:
    """No row writes one of these token sequences: its last id is ruled out wherever the ids before it were drawn."""

    def __init__(self, sequences: Iterable[Sequence[int]]) -> None:
        by_length: dict[int, list[Sequence[int]]] = {}
        for sequence in sequences:
            by_length.setdefault(len(sequence), []).append(sequence)
        self._single = torch.tensor([ids[0] for ids in by_length.pop(1, [])], dtype=torch.long)
        self._longer = [torch.tensor(same, dtype=torch.long) for same in by_length.values()]

    def __call__(self, logits_RV: Tensor, drawn_RT: Tensor, lengths_R: Tensor) -> Tensor:
        logits_RV = logits_RV.index_fill(-1, self._single.to(logits_RV.device), NOTHING)
        for longer in self._longer:
            sequences = longer.to(logits_RV.device)
            begun_RS = _ends_with(drawn_RT, lengths_R, sequences[:, :-1])
            # Several sequences may end in one id: it is out where any of them has begun.
            banned_RV = torch.zeros_like(logits_RV).index_add(-1, sequences[:, -1], begun_RS.to(logits_RV.dtype))
            logits_RV = logits_RV.masked_fill(banned_RV > 0, NOTHING)
        return logits_RV


def _ends_with(drawn_RT: Tensor, lengths_R: Tensor, beginnings_SL: Tensor) -> Tensor:
    """[R, S] whether the last L ids of a row are those of a beginning."""
    length = beginnings_SL.shape[1]
    places_RL = lengths_R[:, None] + torch.arange(-length, 0, device=lengths_R.device)
    tails_RL = drawn_RT.gather(1, places_RL.clamp_min(0)).masked_fill(places_RL < 0, -1)
    return (tails_RL[:, None] == beginnings_SL).all(-1)


class CloseThinking:
    """A budget of thinking tokens: a row that has drawn `budget` of them without the tag is made to write it."""

    def __init__(self, budget: int, tag: str, close_ids: Sequence[int], token_texts: Sequence[str]) -> None:
        """`close_ids` write the tag; `token_texts` [V] is the text of every id, in which the tag is found however a
        tokenizer cuts it or joins it to the text around it."""
        self._budget, self._tag_length = budget, len(tag)
        self._close_ids = torch.tensor(close_ids, dtype=torch.long)
        self._written_CV = torch.from_numpy(written_table(tag, token_texts))

    def __call__(self, logits_RV: Tensor, drawn_RT: Tensor, lengths_R: Tensor) -> Tensor:
        place_R = lengths_R - self._budget
        due_R = (place_R >= 0) & (place_R < len(self._close_ids))
        if not due_R.any():
            return logits_RV
        due_R &= ~self._closed(drawn_RT[:, : self._budget])
        forced_R = self._close_ids.to(place_R.device)[place_R.clamp(0, len(self._close_ids) - 1)]
        only_RV = torch.full_like(logits_RV, NOTHING).scatter(-1, forced_R[:, None], 0.0)
        return torch.where(due_R[:, None], only_RV, logits_RV)

    def _closed(self, drawn_RT: Tensor) -> Tensor:
        """[R] whether the tag is among the ids."""
        written_CV = self._written_CV.to(drawn_RT.device)
        written_R = torch.zeros(len(drawn_RT), dtype=torch.long, device=drawn_RT.device)
        for ids_R in drawn_RT.clamp_min(0).unbind(1):
            written_R = written_CV[written_R, ids_R]
        return written_R == self._tag_length


class ChangeTemperature:
    """Logits are divided by one temperature where the rule's ids have its share of the probability, else by another."""

    def __init__(self, rule: ForkTemperature) -> None:
        self._rule, self._ids = rule, torch.tensor(rule.ids, dtype=torch.long)

    def __call__(self, logits_RV: Tensor, drawn_RT: Tensor, lengths_R: Tensor) -> Tensor:
        mass_R = logits_RV.softmax(-1).index_select(-1, self._ids.to(logits_RV.device)).sum(-1)
        at_fork_R1 = (mass_R >= self._rule.share)[:, None]
        return torch.where(at_fork_R1, logits_RV / self._rule.forks, logits_RV / self._rule.elsewhere)


def written_table(tag: str, token_texts: Sequence[str]) -> np.ndarray:
    """[C + 1, V] how many characters of `tag` are written after a token, given how many were before it.

    What is complete stays complete.
    """
    written = np.arange(len(tag) + 1)
    after_char = {char: np.array([_longest(tag, int(done), char) for done in written]) for char in set(tag)}
    lost = np.where(written == len(tag), written, 0)
    table = np.empty((len(tag) + 1, len(token_texts)), dtype=np.int64)
    for token, text in enumerate(token_texts):
        now = written
        for char in text:
            now = after_char.get(char, lost)[now]
        table[:, token] = now
    return table


def _longest(tag: str, done: int, char: str) -> int:
    """The longest beginning of the tag with which `tag[:done] + char` ends."""
    if done == len(tag):
        return done
    text = tag[:done] + char
    return max(length for length in range(len(tag) + 1) if text.endswith(tag[:length]))
