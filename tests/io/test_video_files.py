"""Video files are written as players want them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from sam3.io.video_files import CODECS, Mp4Writer, frame_rate


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(6), Fraction(1234567, 100000)])
def test_what_is_written_is_read_again(tmp_path: Path, codec: str, rate: Fraction):
    path = tmp_path / "ä.mp4"
    with Mp4Writer(path, rate, codec) as video:
        for level in (20, 120, 220):
            video.write(Image.new("RGB", (33, 24), (level, level, 90)))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in shown] == [(24, 34, 3)] * 3
    for frame, level in zip(shown, (20, 120, 220), strict=True):
        assert np.abs(frame.astype(int) - (level, level, 90)).max() < 12
    assert float(frame_rate(path)) == pytest.approx(float(rate), rel=1e-3)


def test_without_a_video_file_there_is_no_rate(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert frame_rate(tmp_path) is None
    assert frame_rate(tmp_path / "a.mp4") is None
