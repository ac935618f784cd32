"""Scores of the starting weights on phrases that nobody trains, and how far training has moved from them.

A few validation images are asked for a few general phrases before the first step; the scores are kept in the run
folder, so a resumed run compares with the same start. The arithmetic is in :mod:`sam3.eval.drift`.
"""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from sam3.data.collate import collate
from sam3.data.image_dataset import ImageDataset
from sam3.data.negatives import drift_phrases
from sam3.data.samples import Query
from sam3.eval.concepts import PairKey
from sam3.eval.drift import Drift, drift_between
from sam3.io.files import read_json, write_json
from sam3.structures import to_device
from sam3.train import distributed
from sam3.train.reproducibility import untouched_randomness

_log = logging.getLogger(__name__)


class DriftProbe:
    """Asks the same phrases of the same images each time.

    Every process asks all of them and gets the same scores, so nothing is gathered and sharded models work.

    Args:
        dataset: validation data.
        path: where the starting scores are kept.
        num_images: validation images, spread evenly over the data.
        num_phrases: general phrases, half of them things of everyday pictures.
        use_presence: multiply scores with the presence of the phrase.
    """

    def __init__(
        self, dataset: ImageDataset, path: Path, *, num_images: int, num_phrases: int, use_presence: bool = True
    ) -> None:
        self.dataset = dataset
        self.path = path
        self.use_presence = use_presence
        self.phrases = drift_phrases(list(dataset.phrases.values()), num_phrases)
        records = list(dataset.first_of_image.values())
        count = min(num_images, len(records))
        self.indices = [records[place * len(records) // count] for place in range(count)]
        self.start: dict[PairKey, float] | None = None

    def begin(self, model: nn.Module, autocast: AbstractContextManager, *, is_start: bool) -> None:
        """Before training: measure the starting weights, or read what they scored.

        Args:
            is_start: no step has been made yet.
        """
        if is_start:
            self.start = self.scores(model, autocast)
            if distributed.is_main():
                write_json(self.path, self._to_json(self.start))
        elif self.path.exists():
            self.start = self._from_json(read_json(self.path))
        else:
            _log.info("%s does not exist: the drift from the starting weights is not known", self.path)

    def measure(self, model: nn.Module, autocast: AbstractContextManager) -> Drift | None:
        """The change since the start; ``None`` where the start is not known."""
        return None if self.start is None else drift_between(self.start, self.scores(model, autocast))

    def scores(self, model: nn.Module, autocast: AbstractContextManager) -> dict[PairKey, float]:
        """Best score of every (image, phrase) pair."""
        device, was_training = next(model.parameters()).device, model.training
        found: dict[PairKey, float] = {}
        model.eval()
        try:
            with untouched_randomness(), torch.no_grad(), autocast:
                for index in self.indices:
                    sample = replace(self.dataset.sample(index, epoch=0), queries=self._queries())
                    output = model(to_device(collate([sample]), device))
                    best = output.one_to_one.scores(use_presence=self.use_presence).amax(-1)
                    keys = [(sample.image_id, query.category_id) for query in sample.queries]
                    found |= zip(keys, best.tolist(), strict=True)
        finally:
            model.train(was_training)
        return found

    def _queries(self) -> list[Query]:
        return [Query(phrase, -1 - place, ()) for place, phrase in enumerate(self.phrases)]

    def _to_json(self, scores: Mapping[PairKey, float]) -> dict[str, dict[str, float]]:
        """phrase -> image id -> score."""
        table: dict[str, dict[str, float]] = {phrase: {} for phrase in self.phrases}
        for (image_id, category_id), score in scores.items():
            table[self.phrases[-1 - category_id]][str(image_id)] = score
        return table

    def _from_json(self, table: Mapping[str, Mapping[str, float]]) -> dict[PairKey, float]:
        """Without phrases that are no longer asked."""
        numbers = {phrase: -1 - place for place, phrase in enumerate(self.phrases)}
        return {
            (int(image_id), numbers[phrase]): score
            for phrase, row in table.items()
            if phrase in numbers
            for image_id, score in row.items()
        }
