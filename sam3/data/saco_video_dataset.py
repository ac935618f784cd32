"""SA-Co/VEval as questions: every video with all phrases that the benchmark asks of it.

Source: spec/evaluation.md 1.3 and 8. Annotated objects are not needed and not kept.
"""

from dataclasses import dataclass
from pathlib import Path

from sam3.data.saco_video import Video, read_ground_truth
from sam3.errors import DataError
from sam3.io.frames import PictureFiles


@dataclass(frozen=True)
class VideoQuestions:
    """One video and what is asked of it."""

    video: Video
    categories: dict[str, list[int]]  # phrase -> ids of the pairs that ask for it, in file order

    @property
    def cost(self) -> int:
        """Grows with the time the answer takes: every frame is encoded once and searched for every phrase."""
        return len(self.video) * (1 + len(self.categories))


class SacoVideoDataset:
    """The videos of a VEval file that are asked anything.

    Args:
        img_folder: where the frames named by the annotations lie.
        ann_file: VEval ground truth file.

    Raises:
        DataError: the file is not usable, lists no pairs, or the first frames cannot be found.
    """

    def __init__(self, img_folder: str | Path, ann_file: str | Path) -> None:
        self.img_folder = Path(img_folder)
        self.ann_file = Path(ann_file)
        truth = read_ground_truth(ann_file, with_masklets=False)
        if not truth.pairs:
            raise DataError(f"{ann_file}: no video_np_pairs, so it is not known which phrases are asked of which video")
        asked: dict[int, dict[str, list[int]]] = {}
        for pair in truth.pairs:
            asked.setdefault(pair.video_id, {}).setdefault(truth.phrase(pair), []).append(pair.category_id)
        self.questions = [VideoQuestions(truth.videos[video], phrases) for video, phrases in asked.items()]
        first = [item.video.file_names[0] for item in self.questions[:32] if len(item.video)]
        if first and not any((self.img_folder / name).is_file() for name in first):
            raise DataError(
                f"none of the first frames of {len(first)} videos of {ann_file} (such as '{first[0]}') lies in "
                f"'{img_folder}'"
            )

    def __len__(self) -> int:
        """Videos."""
        return len(self.questions)

    @property
    def num_queries(self) -> int:
        """(video, phrase) pairs."""
        return sum(len(ids) for item in self.questions for ids in item.categories.values())

    @property
    def num_frames(self) -> int:
        """Of all videos."""
        return sum(len(item.video) for item in self.questions)

    def frames(self, item: int) -> PictureFiles:
        """The frames of a video, read one by one when they are asked for.

        Raises:
            DataError: one is missing, or they have another size than annotated. A benchmark leaves nothing out.
        """
        video = self.questions[item].video
        paths = [self.img_folder / name for name in video.file_names]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise DataError(f"{self.ann_file}: frame '{missing}' of video {video.id} ('{video.name}') does not exist")
        source = PictureFiles(paths)
        if source.size != (video.height, video.width):
            raise DataError(
                f"{self.ann_file}: video {video.id} ('{video.name}') is annotated at {video.height} x {video.width} "
                f"pixels (height x width), its frames have {source.size[0]} x {source.size[1]}"
            )
        return source
