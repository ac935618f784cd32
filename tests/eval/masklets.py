"""Small videos for tests: ground truth and predictions as their files say them."""

import numpy as np

from sam3.data.saco_video import ground_truth_of
from sam3.eval.masklet_file import read_masklets
from sam3.eval.video_pairs import VideoData
from sam3.ops import rle

HEIGHT, WIDTH = 20, 30


def mask(box, height=HEIGHT, width=WIDTH):
    """A filled rectangle."""
    x, y, w, h = box
    canvas = np.zeros((height, width), dtype=bool)
    canvas[y : y + h, x : x + w] = True
    return rle.encode(canvas)


def track(boxes, *, video_id=0, category_id=1, **more):
    """A masklet of rectangles; ``None`` is a frame without the object."""
    return {
        "video_id": video_id,
        "category_id": category_id,
        "bboxes": [None if box is None else list(box) for box in boxes],
        "segmentations": [None if box is None else mask(box) for box in boxes],
        "areas": [None if box is None else box[2] * box[3] for box in boxes],
        **more,
    }


def document(annotations, *, num_videos=1, num_frames=3, categories=(1, 2), pairs=None):
    """A ground truth file; annotations are numbered from 1 and the pairs those of all categories unless given."""
    videos = [
        {
            "id": index,
            "video_name": f"v{index}",
            "file_names": [f"v{index}/{frame}.jpg" for frame in range(num_frames)],
            "height": HEIGHT,
            "width": WIDTH,
            "length": num_frames,
        }
        for index in range(num_videos)
    ]
    asked = (
        pairs if pairs is not None else [(index, category) for index in range(num_videos) for category in categories]
    )
    return {
        "info": {},
        "videos": videos,
        "annotations": [{"id": number, "iscrowd": 0, **item} for number, item in enumerate(annotations, start=1)],
        "categories": [{"id": category, "name": f"phrase {category}"} for category in categories],
        "video_np_pairs": [
            {"id": number, "video_id": video, "category_id": category, "noun_phrase": f"phrase {category}"}
            for number, (video, category) in enumerate(asked)
        ],
    }


def data(content, predictions=()):
    """Both read."""
    truth = ground_truth_of(content)
    return VideoData(truth, read_masklets(list(predictions), truth))
