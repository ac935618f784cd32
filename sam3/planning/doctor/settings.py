"""What the doctor holds a data set against: the program's defaults, class names, or a training configuration."""

from dataclasses import dataclass, replace
from pathlib import Path

from sam3.data.prompts import Prompts

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Settings:
    """Expectations of a training run."""

    class_names: tuple[str, ...] | None = None  # None = whatever the annotations say
    prompts: Prompts = None
    context_length: int = 32  # tokens of a phrase, start and end included
    bpe_path: str | None = None
    max_objects: int = 200  # of one class in an image
    with_masks: bool = True
    needs_val: bool = True
    decode: bool = True  # read every pixel, not only the headers
    workers: int = 1

    def with_class_names(self, names: tuple[str, ...]) -> "Settings":
        return replace(self, class_names=names or None)

    @staticmethod
    def from_config(config: str, overrides: list[str], data: Path | None) -> "tuple[Settings, Path]":
        """The expectations of a training configuration, and the data set it names (``data`` wins).

        Raises:
            ConfigError: the configuration cannot be used, or neither it nor the caller names a data set.
        """
        from sam3.train.config_loading import load_config
        from sam3.train.model_setup import model_config

        given = [] if data is None else [f"paths.dataset_root='{data}'"]
        run = load_config(config, [*overrides, *given]).run
        model = model_config(run.model)
        dataset = run.dataset
        return (
            Settings(
                class_names=None
                if dataset.class_name is None or dataset.allow_name_mismatch
                else (dataset.class_name,),
                prompts=run.data.prompts,
                context_length=model.text.context_length,
                bpe_path=run.model.bpe_path,
                max_objects=min(run.scratch.max_ann_per_img, model.detector.num_queries),
                with_masks=run.model.enable_segmentation,
                needs_val=run.trainer.mode != "train_only",
            ),
            Path(run.paths.dataset_root),
        )
