import json
import shutil
from pathlib import Path

import pytest

from sam3.data.preparation import yt1b_annotations, yt1b_frames
from sam3.data.preparation.download import DownloadError
from sam3.errors import DataError

TABLE = """saco_yt1b_id,yt_video_id,yt_video_id_w_timestamps,start_time,end_time,length
clip_a,vid1,x,0,1,3
clip_b,vid1,x,1,2,3
clip_c,vid2,x,0,1,4
"""
# Writes three "frames" into the folder of its last argument.
FFMPEG = 'out="${@: -1}"; dir="${out%/*}"; for i in 0 1 2; do echo frame > "$dir/0000$i.jpg"; done'
YT_DLP = 'echo "${@: -1}" >> %s; echo video > "${@: -2:1}"'


def test_clips_are_complete_or_absent(tmp_path: Path, program, capsys):
    program("yt-dlp", YT_DLP % (tmp_path / "calls"))
    program("ffmpeg", f'echo "$@" >> {tmp_path}/ffmpeg_calls; {FFMPEG}')
    (tmp_path / "table.csv").write_text(TABLE)
    arguments = ["--data_dir", str(tmp_path / "d"), "--yt1b_start_end_time_file", str(tmp_path / "table.csv")]
    arguments += ["--yt1b_frame_prep_log_file", str(tmp_path / "log.txt")]
    with pytest.raises(DownloadError, match="clip_c: 3 frames instead of 4"):
        yt1b_frames.main(arguments)
    frames = tmp_path / "d" / "JPEGImages_6fps"
    assert sorted(path.name for path in frames.iterdir()) == ["clip_a", "clip_b"]
    assert sorted(path.name for path in (frames / "clip_a").iterdir()) == ["00000.jpg", "00001.jpg", "00002.jpg"]
    assert "clip_c: 3 frames" in (tmp_path / "log.txt").read_text()
    assert len((tmp_path / "calls").read_text().splitlines()) == 2  # two clips share a video
    call = (tmp_path / "ffmpeg_calls").read_text().splitlines()[0]
    assert "-vf fps=6,scale=1080:-2 -vsync 0 -q:v 2" in call
    with pytest.raises(DownloadError):
        yt1b_frames.main(arguments)
    assert "0 new, 2 already there, 1 failed" in capsys.readouterr().out


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_real_ffmpeg_numbers_frames_from_zero(tmp_path: Path):
    from tests.data.preparation.test_silver_videos import write_video

    write_video(tmp_path / "raw_videos" / "v.mp4", frames=12)
    clip = yt1b_frames.Clip("clip", "v", "0", "1", length=6)
    assert yt1b_frames.Downloader(tmp_path).prepare(clip)
    assert len(list((tmp_path / "JPEGImages_6fps" / "clip").glob("0000?.jpg"))) == 6


def test_the_table_is_checked(tmp_path: Path):
    path = tmp_path / "t.tsv"
    path.write_text(TABLE.replace(",", "\t").replace("clip_b", "../b"))
    with pytest.raises(DataError, match=r"line 2 names '\.\./b'"):
        yt1b_frames.read_clips(path)
    path.write_text("saco_yt1b_id\tlength\na\t3\n")
    with pytest.raises(DataError, match="line 1 lacks yt_video_id, start_time, end_time"):
        yt1b_frames.read_clips(path)


def test_videos_without_all_frames_leave_the_annotations(tmp_path: Path, capsys):
    media = tmp_path / "media"
    (media / "good").mkdir(parents=True)
    (media / "good" / "00000.jpg").write_bytes(b"")
    content = {
        "videos": [
            {"id": 1, "video_name": "good", "file_names": ["good/00000.jpg"]},
            {"id": 2, "video_name": "gone", "file_names": ["gone/00000.jpg"]},
        ],
        "annotations": [{"id": 1, "video_id": 1}, {"id": 2, "video_id": 2}],
        "video_np_pairs": [{"id": 1, "video_id": 1}, {"id": 2, "video_id": "2"}],
        "categories": [{"id": 7, "name": "x"}],
    }
    (tmp_path / "in.json").write_text(json.dumps(content))
    arguments = ["--yt1b_media_dir", str(media), "--yt1b_input_annot_path", str(tmp_path / "in.json")]
    arguments += ["--yt1b_output_annot_path", str(tmp_path / "out.json")]
    arguments += ["--yt1b_annot_update_log_path", str(tmp_path / "log.txt")]
    assert yt1b_annotations.main(arguments) == 0
    updated = json.loads((tmp_path / "out.json").read_text())
    assert [len(updated[key]) for key in ("videos", "annotations", "video_np_pairs", "categories")] == [1, 1, 1, 1]
    assert (tmp_path / "log.txt").read_text() == "gone\n"
    shutil.rmtree(media)
    with pytest.raises(DataError, match="no video of"):
        yt1b_annotations.main(arguments)
