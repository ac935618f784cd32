"""Frames seen in chunks, by one process or by two, against frames seen one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam3.errors import ConfigError, DataError
from sam3.io.frames import PictureList
from sam3.model.video.partners import Partners
from sam3.model.video.perception import Perception, Question
from sam3.model.video.sam3_video import Sam3Video
from sam3.model.video.settings import VideoSettings
from sam3.model.video.video_model import Detections
from sam3.model_builder import build_sam3_video_model
from sam3.structures import GeometricPrompt
from tests.model.video.gloo import in_two_processes

COUNT = 7
ROUNDING = 2e-5  # relative to the largest logit: a picture among others may get other last bits


class Watched(PictureList):
    """Pictures that remember which of them were read."""

    def __init__(self, broken: int | None = None) -> None:
        rng = np.random.default_rng(0)
        super().__init__([Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)) for _ in range(COUNT)])
        self.read: list[int] = []
        self.broken = broken

    def frame(self, index: int) -> Image.Image:
        if index == self.broken:
            raise DataError(f"frame {index} is damaged")
        self.read.append(index)
        return super().frame(index)


def small_model() -> Sam3Video:
    torch.manual_seed(0)
    return build_sam3_video_model(config="tiny", load_from_HF=False, device="cpu")


@pytest.fixture(scope="module")
def model() -> Sam3Video:
    return small_model()


def question(model: Sam3Video, phrase: str, *, frame: int | None = None, only: bool = False) -> Question:
    example = None
    if frame is not None:
        example = GeometricPrompt.empty(1).append_box(torch.tensor([0.4, 0.5, 0.3, 0.2]), True)
    return Question(model.detector.encode_text([phrase]), example, frame, only_with_example=only)


def run(perception: Perception, order: list[int]) -> dict[int, tuple[list[Detections], torch.Tensor]]:
    perception.expect(order)
    return {frame: (perception.detect(frame), perception.tracker_features(frame).top) for frame in order}


def assert_same(found: dict, expected: dict, tolerance: float = ROUNDING) -> None:
    assert list(found) == list(expected)
    for frame, (answers, top) in expected.items():
        torch.testing.assert_close(found[frame][1], top, rtol=tolerance, atol=tolerance)
        for mine, theirs in zip(found[frame][0], answers, strict=True):
            assert len(mine) == len(theirs)
            for name in ("scores", "boxes_xyxy", "masks"):
                one, other = getattr(mine, name), getattr(theirs, name)
                scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
                torch.testing.assert_close(one, other, rtol=0, atol=tolerance * scale)


def questions(model: Sam3Video) -> list[Question]:
    return [
        question(model, "red circle"),
        question(model, "blue square", frame=3),
        question(model, "visual", frame=3, only=True),
    ]


@pytest.fixture(scope="module")
def one_by_one(model: Sam3Video) -> dict:
    perception = Perception(model, Watched())
    perception.ask(questions(model))
    with torch.inference_mode():
        return run(perception, list(range(COUNT)))


@pytest.mark.parametrize("size", [2, 3, 10])
@torch.inference_mode()
def test_chunks_give_what_single_frames_give(model: Sam3Video, one_by_one: dict, size: int):
    perception = Perception(model, source := Watched(), size)
    perception.ask(questions(model))
    assert_same(run(perception, list(range(COUNT))), one_by_one)
    assert source.read == list(range(COUNT))  # each frame once
    backward = run(perception, list(range(COUNT))[::-1])
    assert_same({frame: backward[frame] for frame in range(COUNT)}, one_by_one)


@torch.inference_mode()
def test_several_phrases_are_the_phrases_one_by_one(model: Sam3Video, one_by_one: dict):
    perception = Perception(model, Watched(), pairs_per_call=2)
    perception.ask(questions(model))
    assert_same(run(perception, list(range(COUNT))), one_by_one)  # two in one call
    for index, asked in enumerate(questions(model)):
        perception = Perception(model, Watched())
        perception.ask([asked])
        alone = run(perception, list(range(COUNT)))
        picked = {frame: ([answers[index]], top) for frame, (answers, top) in one_by_one.items()}
        assert_same(alone, picked, tolerance=0.0)  # on a CPU: the same bits


@torch.inference_mode()
def test_a_chunk_stays_in_its_range_and_every_frame_has_its_own_prompt(model: Sam3Video, one_by_one: dict):
    perception = Perception(model, source := Watched(), frames_per_chunk=4)
    perception.ask(questions(model))
    perception.detect(3)  # nothing was announced: the frame alone
    assert source.read == [3]
    perception.expect(range(3, 6))
    for frame in range(3, 6):
        answers = perception.detect(frame)
        assert [bool(len(found)) for found in answers] == [True, True, frame == 3]
        assert_same({frame: (answers, one_by_one[frame][1])}, {frame: one_by_one[frame]})
    assert source.read == [3, 4, 5]  # 4 and 5 are of one chunk; 6 and 7 were not announced


@torch.inference_mode()
def test_new_questions_do_not_encode_a_frame_again(model: Sam3Video):
    perception = Perception(model, source := Watched(), min_score=2.0)
    assert perception.detect(0) == []
    perception.ask([question(model, "cat"), question(model, "dog")])
    assert [len(found) for found in perception.detect(0)] == [0, 0]  # no score exceeds 2
    perception.min_score = 0.0
    perception.ask([question(model, "dog")])
    assert [len(found) for found in perception.detect(0)] == [model.detector.config.detector.num_queries]
    assert source.read == [0]


@torch.inference_mode()
def test_few_frames_are_kept(model: Sam3Video):
    for size, kept in ((1, 2), (3, 3)):
        perception = Perception(model, Watched(), size)
        run(perception, list(range(COUNT)))
        assert 0 < len(perception._views) <= kept


def test_a_chunk_holds_a_frame():
    with pytest.raises(ConfigError, match="frames_per_chunk must be 1 or more, got 0"):
        VideoSettings(frames_per_chunk=0)


# --- two processes ---


def _see_all(partners: Partners) -> dict:
    model = small_model()
    results = {}
    for name, broken in (("whole", None), ("damaged", 3)):
        perception = Perception(model, source := Watched(broken), 1, partners=partners)
        perception.ask(questions(model))
        with torch.inference_mode():
            try:
                seen = run(perception, list(range(COUNT)))
                results[name] = {frame: (list(map(vars, answers)), top) for frame, (answers, top) in seen.items()}
            except DataError as error:
                results[name] = str(error)
        results[f"{name}, read"] = source.read
    return results


def test_two_processes_share_the_frames(one_by_one: dict, tmp_path: Path):
    for rank, found in enumerate(in_two_processes(_see_all, tmp_path)):
        whole = {
            frame: ([Detections(**one) for one in answers], top) for frame, (answers, top) in found["whole"].items()
        }
        assert_same(whole, one_by_one, tolerance=0.0)  # one frame a batch, as alone: the same bits
        assert found["whole, read"] == list(range(rank, COUNT, 2))
        assert found["damaged"] == "frame 3 is damaged"  # what fails in one process fails in all
        assert found["damaged, read"] == [[0, 2], [1]][rank]
