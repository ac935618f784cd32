"""The run over many images, with a predictor that only counts."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3.errors import CheckpointError, DataError
from sam3.io.overlay import label_colours
from sam3.predict.folder import predict_images
from sam3.predict.inputs import list_images
from sam3.predict.run_folder import RunFolder
from sam3.predict.summary import Summary
from sam3.predict.writers import LabelmeWriter, MaskWriter, OverlayWriter
from sam3.structures import FoundObject
from tests.predict.conftest import found_object, save_picture
from tests.predict.test_run_folder import settings


class CountingPredictor:
    """Finds the whole picture as a "cat" in every image; remembers the sizes it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.built = 0

    def __call__(self, image: Image.Image) -> list[FoundObject]:
        self.seen.append(image.size)
        if image.size == (13, 13):
            raise RuntimeError("cannot think about this one")
        return [found_object("cat", np.ones((image.height, image.width), bool))]

    def build(self) -> "CountingPredictor":
        self.built += 1
        return self


def run(
    photos: Path,
    output: Path,
    predictor: CountingPredictor,
    *,
    kinds: Sequence[str] = ("overlay",),
    redo: bool = False,
    workers: int = 1,
) -> Summary:
    writers = {
        "overlay": OverlayWriter(output, label_colours(["cat", "dog"])),
        "masks": MaskWriter(output),
        "labelme": LabelmeWriter(output),
    }
    folder = RunFolder.open(output, settings(), overwrite=redo)
    entries = folder.enter(list_images([photos], recursive=True, exclude=output))
    chosen = [writers[kind] for kind in kinds]
    return predict_images(entries, folder, predictor.build, chosen, redo=redo, workers=workers, progress=False)


def test_a_second_run_processes_nothing(photos, tmp_path):
    predictor = CountingPredictor()
    first = run(photos, tmp_path / "out", predictor)
    assert (first.processed, first.skipped, first.objects) == (3, 0, {"cat": 3})
    second = run(photos, tmp_path / "out", predictor)
    assert (second.processed, second.skipped, second.objects) == (0, 3, {"cat": 3})
    assert len(predictor.seen) == 3
    assert predictor.built == 1  # the model is not even built


def test_an_interrupted_run_goes_on_where_it_stopped(photos, tmp_path):
    predictor = CountingPredictor()
    run(photos, tmp_path / "out", predictor)
    (tmp_path / "out" / "predictions" / "b.json").unlink()  # written last, so this is how a killed run looks
    assert run(photos, tmp_path / "out", predictor).processed == 1
    assert len(predictor.seen) == 4


def test_files_wanted_later_come_from_the_stored_result(photos, tmp_path):
    predictor = CountingPredictor()
    run(photos, tmp_path / "out", predictor)
    summary = run(photos, tmp_path / "out", predictor, kinds=("overlay", "labelme", "masks"))
    assert summary.processed == 0
    assert len(predictor.seen) == 3
    assert sorted(path.name for path in (tmp_path / "out" / "labelme").iterdir()) == ["a.json", "b.json", "c.json"]
    assert (tmp_path / "out" / "masks" / "a" / "001_cat.png").exists()


def test_files_that_were_edited_are_not_written_again(photos, tmp_path):
    run(photos, tmp_path / "out", CountingPredictor(), kinds=("labelme",))
    (tmp_path / "out" / "labelme" / "a.json").write_text("corrected by hand")
    run(photos, tmp_path / "out", CountingPredictor(), kinds=("labelme",))
    assert (tmp_path / "out" / "labelme" / "a.json").read_text() == "corrected by hand"


def test_redo_processes_everything_again(photos, tmp_path):
    predictor = CountingPredictor()
    run(photos, tmp_path / "out", predictor)
    assert run(photos, tmp_path / "out", predictor, redo=True).processed == 3
    assert len(predictor.seen) == 6


def test_bad_images_never_stop_the_run(photos, tmp_path):
    (photos / "0_text.jpg").write_text("this is no picture")
    (photos / "1_empty.png").write_bytes(b"")
    (photos / "2_cut.jpg").write_bytes((photos / "b.jpg").read_bytes()[:300])
    save_picture(photos / "3_strange.png", (13, 13))
    summary = run(photos, tmp_path / "out", CountingPredictor())
    assert summary.processed == 3
    assert [Path(path).name for path in summary.failures] == ["0_text.jpg", "1_empty.png", "2_cut.jpg", "3_strange.png"]
    listed = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert listed[0]["image"].endswith("0_text.jpg")
    assert "cannot be read" in listed[0]["reason"]
    assert listed[3]["reason"] == "RuntimeError: cannot think about this one"


def test_failures_are_tried_again_and_forgotten_when_mended(photos, tmp_path):
    (photos / "bad.png").write_text("no picture")
    run(photos, tmp_path / "out", CountingPredictor())
    save_picture(photos / "bad.png")
    summary = run(photos, tmp_path / "out", CountingPredictor())
    assert (summary.processed, summary.skipped, summary.failures) == (1, 3, {})
    assert not (tmp_path / "out" / "failures.json").exists()


def test_several_workers_do_the_same(tmp_path):
    photos = tmp_path / "photos"
    for number in range(20):
        save_picture(photos / f"{number:02d}.png", (10 + number, 10))
    (photos / "05.png").write_text("no picture")
    outcomes = []
    for workers in (1, 3):
        predictor = CountingPredictor()
        summary = run(photos, tmp_path / f"out{workers}", predictor, workers=workers)
        results = [json.loads(path.read_text()) for path in sorted((tmp_path / f"out{workers}").rglob("predictions/*"))]
        outcomes.append((summary.processed, summary.objects, summary.failures.keys(), results))
        assert len(predictor.seen) == 19
    assert outcomes[0] == outcomes[1]


def test_a_full_disk_stops_the_run_with_advice(photos, tmp_path):
    class FullDisk(OverlayWriter):
        def write(self, result, image):
            raise OSError(errno.ENOSPC, "No space left on device")

    folder = RunFolder.open(tmp_path / "out", settings())
    writer = FullDisk(tmp_path / "out", {})
    with pytest.raises(DataError, match="No space left.*run again"):
        predict_images(folder.enter(list_images([photos])), folder, CountingPredictor().build, [writer], progress=False)


def test_a_model_that_cannot_be_built_is_no_fault_of_the_image(photos, tmp_path):
    def broken():
        raise CheckpointError("weights do not fit")

    folder = RunFolder.open(tmp_path / "out", settings())
    with pytest.raises(CheckpointError, match="do not fit"):
        predict_images(folder.enter(list_images([photos])), folder, broken, [], progress=False)


def test_equal_and_foreign_names_in_sub_folders_stay_apart(tmp_path):
    photos = tmp_path / "照片"
    for place in ("a.png", "a.jpg", "sub/a.png", "süb/a.png", "sub/日本 語.png"):
        save_picture(photos / place)
    run(photos, tmp_path / "out", CountingPredictor(), kinds=("overlay", "labelme", "masks"))
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*") if path.is_file()}
    for name in ("a", "a_2", "sub/a", "süb/a", "sub/日本 語"):
        assert {f"overlays/{name}.jpg", f"labelme/{name}.json", f"predictions/{name}.json"} <= written
        assert f"masks/{name}/001_cat.png" in written


def test_exif_orientation_is_applied_to_every_output(tmp_path):
    """The picture lies on its side in the file; results and overlay stand upright."""
    lying = np.zeros((600, 900, 3), np.uint8)
    lying[:, :450] = (200, 0, 0)  # left half red: upright it is the top
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to view
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(lying).save(photos / "a.jpg", exif=exif, quality=95)

    run(photos, tmp_path / "out", CountingPredictor(), kinds=("overlay", "labelme", "masks"))
    with Image.open(tmp_path / "out" / "overlays" / "a.jpg") as overlay:
        assert overlay.size == (600, 900)
        pixels = np.asarray(overlay).astype(int)
    assert pixels[225, 300, 0] - pixels[675, 300, 0] > 80
    document = json.loads((tmp_path / "out" / "labelme" / "a.json").read_text())
    assert (document["imageWidth"], document["imageHeight"]) == (600, 900)
    with Image.open(tmp_path / "out" / "masks" / "a" / "001_cat.png") as mask:
        assert mask.size == (600, 900)
