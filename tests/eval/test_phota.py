"""pHOTA of files: which masklets, frames and pairs count, and the variants."""

import numpy as np
import pytest

from sam3.data.saco_video import PairId
from sam3.errors import DataError
from sam3.eval.hota import NAMES
from sam3.eval.phota import CHALLENGING_TAG, class_agnostic_hota, class_hota, phota
from sam3.eval.video_pairs import VideoData
from tests.eval import video_definition
from tests.eval.masklets import data, document, track
from tests.eval.test_hota import as_frames

BOX, NEAR, APART = (2, 2, 8, 8), (3, 2, 8, 8), (18, 6, 8, 8)


def test_only_scores_above_the_threshold_count():
    content = document([track([BOX] * 3)])
    assert phota(data(content, [track([BOX] * 3, score=0.5)])).kinds["segm"].all.hota == 0.0
    assert phota(data(content, [track([BOX] * 3, score=0.501)])).kinds["segm"].all.hota == 1.0


def test_every_pair_is_a_sequence_of_its_own():
    """The right object under the wrong phrase is missed there and false here."""
    found = phota(data(document([track([BOX] * 3)]), [track([BOX] * 3, category_id=2, score=1.0)]), ["segm"])
    assert found.kinds["segm"].all.det_a == 0.0
    assert list(found.kinds["segm"].pairs) == [PairId(0, 1), PairId(0, 2)]
    assert set(found.to_dict()) == {f"video_mask_all_phrase_{name}" for name in NAMES}


def test_pairs_without_annotations_and_confident_predictions_have_no_row():
    sets = data(document([track([BOX] * 3)]), [track([BOX] * 3, category_id=2, score=0.4)])
    assert list(phota(sets).pair_dicts()) == [PairId(0, 1)]


def test_an_empty_box_of_the_ground_truth_is_an_object_that_nobody_finds():
    content = document([track([BOX] * 3)])
    content["annotations"][0]["bboxes"][1] = [0, 0, 0, 0]
    found = phota(data(content, [track([BOX] * 3, score=1.0)]))
    assert found.kinds["bbox"].all.det_re == pytest.approx(2 / 3)
    assert found.kinds["segm"].all.det_re == 1.0


def test_long_tracks_that_meet_equal_the_slow_definition():
    """Several objects of one phrase that cross, broken predictions: frames with and without conflicts."""
    generator = np.random.default_rng(3)
    num_frames = 40
    objects = [moving(generator, num_frames) for _ in range(4)]
    found = [jittered(generator, item, part) for item in objects for part in (slice(0, 25), slice(20, 40))]
    sets = data(document([track(item) for item in objects], num_frames=num_frames), found)
    for kind in ("bbox", "segm"):
        tracks = next(iter(sets.videos()))
        similarity = tracks.similarity(kind, range(4), range(8))
        assert ((similarity > 0).sum(axis=1) > 1).any()
        frames = as_frames(similarity, tracks.truth_present(kind), tracks.prediction_present)
        expected = video_definition.hota(frames, range(4), range(8))
        assert list(phota(sets).kinds[kind].all.to_dict().values()) == pytest.approx(expected, abs=1e-12)


def moving(generator, num_frames):
    start, speed = generator.integers(0, 12, 2), generator.uniform(-0.3, 0.3, 2)
    places = (start + speed * np.arange(num_frames)[:, None]).round().astype(int).clip(0, 12)
    return [None if generator.random() < 0.1 else (int(x), int(y), 8, 7) for x, y in places]


def jittered(generator, boxes, part):
    kept = [box if part.start <= frame < part.stop else None for frame, box in enumerate(boxes)]
    moved = [box and (max(0, box[0] + int(generator.integers(-1, 2))), *box[1:]) for box in kept]
    return track(moved, score=0.9)


def test_pairs_tagged_as_hard_are_reported_apart():
    easy, hard = track([BOX] * 3, tags=[]), track([APART] * 3, category_id=2, tags=[CHALLENGING_TAG, "dark"])
    sets = data(document([easy, hard]), [track([BOX] * 3, score=1.0)])
    found = phota(sets, ["segm"])
    assert (found.kinds["segm"].all.det_a, found.kinds["segm"].challenging.det_a) == (0.5, 0.0)
    assert list(found.to_dict())[9] == "video_mask_challenging_phrase_HOTA"


@pytest.mark.parametrize("annotations", [[], [track([BOX] * 3)], [track([BOX] * 3, tags=["other"])]])
def test_without_hard_pairs_there_is_no_such_block(annotations):
    assert phota(data(document(annotations))).kinds["segm"].challenging is None


def test_tags_on_some_annotations_of_a_pair_are_refused():
    content = document([track([BOX] * 3, tags=[CHALLENGING_TAG]), track([APART] * 3, tags=[])])
    with pytest.raises(DataError, match=r"tags: .* \(video, category\) \(0, 1\) have it on some"):
        phota(data(content))


def test_masks_must_be_there_to_be_judged():
    without = track([BOX] * 3, score=1.0)
    del without["segmentations"]
    sets = data(document([track([BOX] * 3)]), [without])
    assert phota(sets, ["bbox"]).kinds["bbox"].all.hota == 1.0
    with pytest.raises(DataError, match="predictions: masklet 0 has no segmentations"):
        phota(sets)
    with pytest.raises(DataError, match="iou_types has 'mask'; expected some of bbox, segm"):
        phota(sets, ["mask"])


def test_suppressed_tracks_lose_boxes_and_masks():
    sets = data(document([track([BOX] * 3)]), [track([BOX] * 3, score=0.9), track([NEAR] * 3, score=0.8)])
    found = class_agnostic_hota(sets)
    assert found.kinds["bbox"].all.det_pr == found.kinds["segm"].all.det_pr == 1.0
    as_published = class_agnostic_hota(sets, keep_suppressed_masks=True)
    assert (as_published.kinds["bbox"].all.det_pr, as_published.kinds["segm"].all.det_pr) == (1.0, 0.5)


def test_phrases_that_occur_nowhere_do_not_drown_the_others():
    content = document([track([BOX] * 3)], categories=range(1, 11))
    sets = data(content, [track([BOX] * 3, score=0.9)])
    assert class_hota(sets).kinds["segm"].all.hota == 1.0
    assert class_hota(sets, average_over_table=True).kinds["segm"].all.hota == pytest.approx(0.1)
    assert class_hota(data(document([]))).kinds["segm"].all.hota == 0.0


def test_the_order_of_masklets_does_not_matter():
    objects = [track([BOX] * 3), track([APART, BOX, None])]
    found = [track([NEAR] * 3, score=0.9), track([APART, None, BOX], score=0.7)]
    sets = data(document(objects), found)
    turned = VideoData(data(document(objects[::-1])).truth, sets.predictions[::-1])
    assert phota(sets).to_dict() == pytest.approx(phota(turned).to_dict(), abs=1e-12)
