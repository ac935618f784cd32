import io
import json
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from sam3.data.preparation import frame_extraction, source_videos
from sam3.data.preparation.download import DownloadError
from sam3.data.preparation.frame_settings import FrameSettings, read_frame_settings
from sam3.data.preparation.programs import ProgramError
from sam3.errors import ConfigError, DataError


def write_video(path: Path, frames: int) -> None:
    """Frame k is grey of value 20 k modulo 256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=6)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            picture = np.full((48, 64, 3), 20 * index % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def settings_for(folder: Path, name: str, videos: list[str], **values) -> FrameSettings:
    """An annotation file with frames 0 and 3 of each video, the second at half its size."""
    images, annotations = [], []
    for number, video in enumerate(videos):
        for index, size in ((0, [48, 64]), (3, [24, 32])):
            pair = 10 * number + index
            images.append(
                {
                    "id": pair,
                    "file_name": f"{video}/{index:05d}.jpg",
                    "original_video": video,
                    "global_frame_idx": index,
                    "image_size": size,
                }
            )
            annotations.append({"id": pair, "image_id": pair})
    path = folder / f"silver_{name}_merged_test.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return FrameSettings(name=name, annotation_file=path, folder=folder / name, **values)


def test_frames_are_the_annotated_ones_at_the_annotated_size(tmp_path: Path):
    settings = settings_for(tmp_path, "sav", ["v1"], update_annotations=False, remove_videos=True)
    write_video(settings.videos / "v1.mp4", frames=6)
    assert frame_extraction.extract_frames(settings).endswith("1 new, 0 already there, 0 failed")
    first, third = (Image.open(settings.frames / "v1" / name) for name in ("00000.jpg", "00003.jpg"))
    assert first.size == (64, 48)
    assert third.size == (32, 24)
    assert abs(np.asarray(first).mean() - 0) < 4
    assert abs(np.asarray(third).mean() - 60) < 4
    assert not (settings.videos / "v1.mp4").exists()
    assert frame_extraction.extract_frames(settings).endswith("0 new, 1 already there, 0 failed")


def test_unreadable_videos_leave_the_annotation_file(tmp_path: Path):
    settings = settings_for(tmp_path, "yt1b", ["good", "gone", "short"])
    write_video(settings.videos / "good.mp4", frames=5)
    write_video(settings.videos / "short.mp4", frames=2)
    before = settings.annotation_file.read_text()
    line = frame_extraction.extract_frames(settings)
    assert "4 entries left" in line
    assert "short.mp4 ends before frame 3" in line
    content = json.loads(settings.annotation_file.read_text())
    assert [entry["original_video"] for entry in content["images"]] == ["good", "good"]
    assert [entry["image_id"] for entry in content["annotations"]] == [0, 3]
    backup = tmp_path / "silver_yt1b_merged_test_original.json"
    assert json.loads(backup.read_text()) == json.loads(before)


def test_unreadable_videos_are_an_error_where_annotations_must_stay(tmp_path: Path):
    settings = settings_for(tmp_path, "droid", ["broken"], update_annotations=False)
    settings.videos.mkdir(parents=True)
    (settings.videos / "broken.mp4").write_bytes(b"no video")
    before = settings.annotation_file.read_bytes()
    with pytest.raises(DownloadError, match="cannot be decoded"):
        frame_extraction.extract_frames(settings)
    assert settings.annotation_file.read_bytes() == before


def test_droid_address():
    name = "AUTOLab_success_2023-07-07_Fri_Jul__7_18:50:36_2023_recordings_MP4_22008760"
    assert source_videos.droid_address(name) == (
        "gs://gresearch/robotics/droid_raw/1.0.1/AUTOLab/success/2023-07-07/Fri_Jul__7_18:50:36_2023/recordings/MP4/"
        "22008760.mp4"
    )
    with pytest.raises(DataError, match="is not LAB_outcome"):
        source_videos.droid_address("a_b")


def test_yt1b_downloads_are_whole_and_tried_three_times(tmp_path: Path, program):
    settings = settings_for(tmp_path, "yt1b", ["abc", "dead"])
    program(
        "yt-dlp",
        f'echo "$@" >> {tmp_path}/calls; out="${{@: -2:1}}"; echo half > "$out"\n'
        'case "${@: -1}" in *dead) echo "ERROR: private video" >&2; exit 1;; esac; echo video > "$out"',
    )
    line = source_videos.download_videos(settings)
    assert "1 new, 0 already there, 1 failed" in line
    assert "dead: yt-dlp ended with exit code 1: ERROR: private video" in line
    assert (settings.videos / "abc.mp4").read_text() == "video\n"
    assert not (settings.videos / "dead.mp4").exists()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum(call.endswith("watch?v=dead") for call in calls) == 3
    assert "best[height<=720]/best" in calls[0]


def test_ego4d_moves_what_its_command_wrote(tmp_path: Path, program):
    settings = settings_for(tmp_path, "ego4d", ["uid1"])
    program("ego4d", 'mkdir -p "$2/v2/full_scale"; echo video > "$2/v2/full_scale/$6.mp4"')
    assert "1 new" in source_videos.download_videos(settings)
    assert (settings.videos / "uid1.mp4").read_text() == "video\n"
    assert not list((settings.folder / "ego4d_download").iterdir())


def test_a_missing_program_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = settings_for(tmp_path, "droid", ["a"])
    with pytest.raises(ProgramError, match="'gsutil', which was not found: pip install gsutil"):
        source_videos.download_videos(settings)


def test_sav_unpacks_annotated_videos_from_a_file(tmp_path: Path):
    archive = tmp_path / "sav.tar"
    with tarfile.open(archive, "w") as content:
        for name in ("deep/v1.mp4", "deep/other.mp4"):
            member = tarfile.TarInfo(name)
            member.size = 5
            content.addfile(member, io.BytesIO(b"video"))
    settings = settings_for(tmp_path, "sav", ["v1"], sav_videos=str(archive))
    assert source_videos.download_videos(settings) == "sav: 1 new, 0 already there, 0 failed"
    assert [path.name for path in settings.videos.iterdir()] == ["v1.mp4"]
    assert source_videos.download_videos(settings) == "sav: 0 new, 1 already there, 0 failed"
    lacking = settings_for(tmp_path, "sav", ["v2"], sav_videos=str(archive))
    with pytest.raises(DataError, match="lacks 1 videos, the first: v2"):
        source_videos.download_videos(lacking)


def test_the_shipped_settings_are_read(repository: Path, tmp_path: Path):
    path = repository / "scripts/eval/silver/CONFIG_FRAMES.yaml"
    settings = read_frame_settings(path, "yt1b")
    assert settings.annotation_file == Path("/data/saco_silver/annotations/silver_yt1b_merged_test.json")
    assert settings.update_annotations
    assert not read_frame_settings(path, "droid").update_annotations
    with pytest.raises(ConfigError, match="unknown data set 'x'"):
        read_frame_settings(path, "x")
    (tmp_path / "c.yaml").write_text("path_annotations: /a\n")
    with pytest.raises(ConfigError, match="sav_path must be set"):
        read_frame_settings(tmp_path / "c.yaml", "sav")
