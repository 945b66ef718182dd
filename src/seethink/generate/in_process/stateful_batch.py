"""Rows of a model whose layers carry more than keys and values: linear attention, short convolutions, chunks.

Such a state folds the prompt in, so that no attention over a shared prompt can stand for it. Prompts are still
prefilled once; then every row has a copy of all states, in transformers' own cache.

Letters: P prompts, R rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from seethink.core.types import Prompt
from seethink.models.forward import hidden_states, output_head
from seethink.models.load import LoadedModel
from seethink.models.padding import left_pad, next_positions
from seethink.models.parts import family_of


class StatefulBatch:
    """As a DecodeBatch, but for `attend`: the model itself steps over its cache."""

    def __init__(self, loaded: LoadedModel, prompts: list[Prompt], group_size: int) -> None:
        """Left-padded prompts once through the model; every prompt gets `group_size` rows."""
        self._model = loaded.model
        self._rope = family_of(loaded.model).positions == "M-RoPE"
        prefix = left_pad(prompts, loaded.chat.pad_id).to(loaded.device)
        self._cache = DynamicCache(config=self._model.config.get_text_config())
        hidden = hidden_states(
            self._model,
            prefix.input_ids,
            prefix.position_ids,
            prefix.mm_kwargs,
            attention_mask=prefix.attention_mask,
            cache=self._cache,
        )
        owners = torch.arange(len(prompts), device=loaded.device).repeat_interleave(group_size)
        self.rows = torch.arange(len(owners), device=loaded.device)
        """[R] numbers of the rows that are left."""
        self.positions = next_positions(prefix)[owners]
        """[R] the position of the next token."""
        self.first_logits = output_head(self._model)(hidden[:, -1])[owners]
        """[R, V] what the prompt's last token predicts."""
        self._mask = prefix.attention_mask[owners]
        self._cache.reorder_cache(owners)  # type: ignore[arg-type]  # any tensor of indices

    def step(self, token_ids: Tensor) -> Tensor:
        """[R, V] logits after these tokens [R]."""
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        columns = self.positions[:, None]
        placed = columns.expand(3, -1, -1) if self._rope else columns
        hidden = hidden_states(
            self._model, token_ids[:, None], placed, {}, attention_mask=self._mask, cache=self._cache
        )
        self.positions = self.positions + 1
        return output_head(self._model)(hidden[:, -1])  # type: ignore[no-any-return]

    def select(self, keep: Tensor) -> None:
        """Keep the rows `keep` alone: numbers of rows, in order."""
        self.rows, self.positions, self._mask = self.rows[keep], self.positions[keep], self._mask[keep]
        self._cache.reorder_cache(keep)  # type: ignore[arg-type]
