"""The scripts in scripts/eval start from a bare clone and explain themselves, without loading torch."""

import subprocess
import sys
from pathlib import Path

import pytest

DOORS = [
    "silver/preprocess_silver_geode_bdd100k_food_rec.py",
    "silver/download_preprocess_nga.py",
    "silver/download_inaturalist.py",
    "silver/download_fathomnet.py",
    "silver/download_videos.py",
    "silver/extract_frames.py",
    "veval/saco_yt1b_downloader.py",
    "veval/saco_yt1b_annot_update.py",
]


@pytest.mark.parametrize("door", DOORS)
def test_help(door: str, repository: Path):
    script = repository / "scripts" / "eval" / door
    check = f"import sys, runpy; sys.argv = [{door!r}, '--help']\n"
    check += f"try: runpy.run_path({str(script)!r}, run_name='__main__')\n"
    check += "except SystemExit as end: assert not end.code, end.code\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
