"""Features of phrases under a frozen text encoder, computed once."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

import torch

from sam3.model.frozen import autocast_state, weights_version
from sam3.model.text.encoder import TextEncoder
from sam3.model.text.tokenizer import Tokenizer
from sam3.structures import TextFeatures

MAX_PHRASES = 1024  # 170 MiB with the released text encoder


class PhraseCache:
    """Remembers the phrases used last. What it holds is void as soon as weights of the encoder change.

    A phrase is encoded alone, never beside others: its features then do not depend on its company in their last
    bits, and a resumed run, whose cache begins empty, computes what the uninterrupted one did.
    """

    def __init__(self, limit: int = MAX_PHRASES) -> None:
        self.limit = limit
        self._entries: OrderedDict[str, TextFeatures] = OrderedDict()
        self._valid_for: Hashable = None

    def __len__(self) -> int:
        return len(self._entries)

    @torch.no_grad()
    def encode(self, encoder: TextEncoder, tokenizer: Tokenizer, phrases: Sequence[str]) -> TextFeatures:
        """T phrases -> features without a graph."""
        device = encoder.resizer.weight.device
        valid_for = (weights_version(encoder), autocast_state(device), torch.is_inference_mode_enabled())
        if valid_for != self._valid_for:
            self._entries.clear()
            self._valid_for = valid_for
        rows = [self._row(encoder, tokenizer, phrase, device) for phrase in phrases]
        while len(self._entries) > self.limit:
            self._entries.popitem(last=False)
        return TextFeatures(
            features=torch.cat([row.features for row in rows]),
            mask=torch.cat([row.mask for row in rows]),
            embeddings=torch.cat([row.embeddings for row in rows]),
        )

    def _row(self, encoder: TextEncoder, tokenizer: Tokenizer, phrase: str, device: torch.device) -> TextFeatures:
        if phrase not in self._entries:
            length = len(encoder.encoder.positional_embedding)
            self._entries[phrase] = encoder(tokenizer([phrase], length).to(device))
        self._entries.move_to_end(phrase)
        return self._entries[phrase]
