"""What a benchmark run has on disk: journals while it runs, one prediction file at the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sam3.data.saco_dataset import SacoImageDataset
from sam3.data.saco_video_dataset import SacoVideoDataset
from sam3.errors import ConfigError
from sam3.io.files import fingerprint, read_json, write_json
from sam3.io.journal import Journal, read_journal
from sam3.train import distributed
from sam3.train.schema import RunConfig

Record = dict[str, Any]


def shared_identity(config: RunConfig, dataset: SacoImageDataset | SacoVideoDataset) -> dict[str, Any]:
    """What decides what is predicted, of pictures as of videos."""
    weights = config.model.checkpoint_path
    return {
        "weights": "released" if weights is None else fingerprint(Path(weights).expanduser()),
        "annotations": fingerprint(dataset.ann_file),
        "pairs": dataset.num_queries,
        "resolution": config.model.resolution,
        "precision": f"{config.optim.amp.enabled} {config.optim.amp.dtype}",
    }


class BenchmarkFolder:
    """
    Args:
        folder: of the journals.
        predictions: the prediction file.
        description: everything that decides what is predicted; results of different ones are never mixed.
    """

    def __init__(self, folder: Path, predictions: Path, description: dict[str, Any]) -> None:
        self.folder = folder
        self.description = description
        self.predictions = predictions
        self._info = folder / "predictions_of.json"

    def is_complete(self) -> bool:
        """Whether the predictions of this description are there.

        Raises:
            ConfigError: those of another one are.
        """
        if not self._info.exists() or not self.predictions.exists():
            return False
        found = read_json(self._info)
        if found != self.description:
            keys = [key for key in self.description if found.get(key) != self.description[key]]
            raise ConfigError(
                f"{self.folder} holds predictions of another run (different: {', '.join(keys)}); delete that folder or "
                "choose another paths.experiment_log_dir"
            )
        return True

    def journal(self) -> Journal:
        """That of this process."""
        return Journal(self.folder / f"journal_{distributed.rank()}.jsonl", self.description)

    def finished(self) -> Iterator[tuple[int, list[Record]]]:
        """Number and records of each finished item, from the journals of all processes."""
        for path in sorted(self.folder.glob("journal_*.jsonl")):
            for entry in read_journal(path, self.description):
                yield entry["item"], entry["records"]

    def merge(self, count: int) -> None:
        """All records in the order of the ``count`` items, in one file; the journals go when it is there."""
        finished = dict(self.finished())
        assert len(finished) == count, f"{len(finished)} of {count} items are finished"
        write_json(self.predictions, [record for index in range(count) for record in finished[index]])
        write_json(self._info, self.description)
        for path in self.folder.glob("journal_*.jsonl"):
            path.unlink()
