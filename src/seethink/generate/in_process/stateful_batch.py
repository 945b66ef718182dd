"""Rows of a model whose cache is other than keys and values: linear attention, short convolutions, chunks, latents.

Such a state folds the prompt in, or is not what attention reads, so that no attention over a shared prompt can
stand for it. Prompts are still prefilled once; then every row has a copy of all states, in transformers' own cache.

Letters: P prompts, R rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from seethink.core.types import Prompt
from seethink.generate.in_process.decode_batch import through_the_model
from seethink.models.forward import next_logits
from seethink.models.load import LoadedModel
from seethink.models.padding import next_positions


class StatefulBatch:
    """As a DecodeBatch, but for `attend`: the model itself steps over its cache."""

    def __init__(self, loaded: LoadedModel, prompts: list[Prompt], group_size: int) -> None:
        """Left-padded prompts once through the model; every prompt gets `group_size` rows."""
        self._model = loaded.model
        self._cache = DynamicCache(config=self._model.config.get_text_config())
        prefix, logits = through_the_model(loaded, prompts, self._cache)
        owners = torch.arange(len(prompts), device=loaded.device).repeat_interleave(group_size)
        self.rows = torch.arange(len(owners), device=loaded.device)
        """[R] numbers of the rows that are left."""
        self.positions = next_positions(prefix)[owners]
        """[R] the position of the next token."""
        self.first_logits = logits[owners]
        """[R, V] what the prompt's last token predicts."""
        self._mask = prefix.attention_mask[owners]
        self._cache.reorder_cache(owners)  # type: ignore[arg-type]  # any tensor of indices

    def step(self, token_ids: Tensor) -> Tensor:
        """[R, V] logits after these tokens [R]."""
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        logits = next_logits(self._model, token_ids, self.positions, self._cache, self._mask)
        self.positions = self.positions + 1
        return logits

    def select(self, keep: Tensor) -> None:
        """Keep the rows `keep` alone: numbers of rows, in order."""
        self.rows, self.positions, self._mask = self.rows[keep], self.positions[keep], self._mask[keep]
        self._cache.reorder_cache(keep)  # type: ignore[arg-type]
