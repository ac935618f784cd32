"""Order, resuming, workers, ranks, and loaders that would be empty."""

import logging

import pytest
import torch

from sam3.data.image_dataset import ImageDataset
from sam3.data.loader import _BatchSource, build_loader
from sam3.data.transforms.presets import finetune
from sam3.errors import ConfigError, DataError
from tests.data.coco_folder import write_coco_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_coco_folder(tmp_path_factory.mktemp("coco"), 7, size=(32, 40))


def _dataset(folder, *, training=True):
    root = folder / "train"
    return ImageDataset(root / "images", root / "annotations.json", finetune(28), training=training)


def _names(batches):
    return [batch.origin.file_names for batch in batches]


def _sums(batches):
    return [(batch.images.double().sum().item(), batch.targets.boxes.double().sum().item()) for batch in batches]


def test_lengths(folder):
    dataset = _dataset(folder)
    assert len(build_loader(dataset, batch_size=2)) == 4
    assert len(build_loader(dataset, batch_size=2, drop_last=True)) == 3
    assert len(build_loader(dataset, batch_size=7, drop_last=True)) == 1
    assert len(list(build_loader(dataset, batch_size=2, drop_last=True))) == 3
    assert build_loader(dataset, batch_size=2).batch_size == 2


@pytest.mark.filterwarnings("error")
def test_many_workers_on_few_cores_are_no_warning(folder):
    assert len(build_loader(_dataset(folder), batch_size=2, num_workers=99)) == 4


def test_order_without_and_with_shuffling(folder):
    dataset = _dataset(folder)
    in_order = [name for names in _names(build_loader(dataset, batch_size=3)) for name in names]
    assert in_order == [f"{index:04d}.png" for index in range(7)]
    loader = build_loader(dataset, batch_size=3, shuffle=True, seed=4)
    epochs = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        epochs.append([name for names in _names(loader) for name in names])
    assert sorted(epochs[0]) == sorted(epochs[1]) == in_order
    assert epochs[0] != epochs[1]
    assert epochs[0] == epochs[2]
    assert epochs[0] != [
        n for names in _names(build_loader(dataset, batch_size=3, shuffle=True, seed=5)) for n in names
    ]


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_resuming_in_an_epoch_gives_the_same_batches_with_any_number_of_workers(folder, num_workers):
    whole = build_loader(_dataset(folder), batch_size=2, shuffle=True, seed=3)
    whole.set_epoch(5)
    expected = _sums(whole)
    loader = build_loader(_dataset(folder), batch_size=2, shuffle=True, seed=3, num_workers=num_workers)
    loader.set_epoch(4)
    next(loader.iterate())  # abandoned
    loader.set_epoch(5)
    assert _sums(loader.iterate(start_step=2)) == expected[2:]
    assert _sums(loader) == expected
    assert _sums(loader.iterate(start_step=len(loader))) == []
    with pytest.raises(ValueError, match="start_step must be in 0..4, got 5"):
        next(loader.iterate(start_step=5))


def test_pinning_reaches_every_tensor_of_a_batch(folder, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor.shape) or tensor.clone())
    loaded = _BatchSource(_dataset(folder))[(0, [0, 1])]
    copy = loaded.pin_memory()
    assert len(pinned) == 20
    assert torch.equal(copy.batch.targets.masks, loaded.batch.targets.masks)
    assert copy.batch.phrases == loaded.batch.phrases
    assert (
        build_loader(_dataset(folder), batch_size=1, pin_memory=True)._batches.pin_memory == torch.cuda.is_available()
    )


def test_global_random_state_is_left_alone(folder):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(build_loader(_dataset(folder), batch_size=2, shuffle=True))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_steps_of_all_processes_are_those_of_one(folder, shuffle, drop_last):
    options = {"shuffle": shuffle, "drop_last": drop_last, "seed": 3}
    alone = build_loader(_dataset(folder), batch_size=6, **options)
    ranks = [build_loader(_dataset(folder), batch_size=2, rank=rank, world_size=3, **options) for rank in range(3)]
    assert [len(loader) for loader in ranks] == [len(alone)] * 3
    assert {loader.images_per_step for loader in (alone, *ranks)} == {6}
    together = list(zip(*(_names(loader) for loader in ranks), strict=True))
    for step, whole in enumerate(_names(alone)):
        own = {}
        for loader, names in zip(ranks, together[step], strict=True):
            own |= zip(loader.places(step), names, strict=False)  # a stand-in has no place
        assert [own[place] for place in sorted(own)] == whole
        assert sorted(own) == list(alone.places(step))


def test_a_process_without_an_image_in_the_last_step_gets_a_stand_in(folder):
    loaders = [build_loader(_dataset(folder), batch_size=1, rank=rank, world_size=8) for rank in range(8)]
    assert [list(loader.places(0)) for loader in loaders] == [[0], [1], [2], [3], [4], [5], [6], []]
    assert _names(loaders[7]) == [["0000.png"]]


def test_a_loader_is_never_empty(folder, caplog):
    dataset = _dataset(folder)
    with caplog.at_level(logging.WARNING):
        loader = build_loader(dataset, batch_size=8, drop_last=True)
    assert "drop_last is switched off: the 7 records" in caplog.text
    assert len(loader) == 1
    empty = ImageDataset.__new__(ImageDataset)
    empty.records = []
    with pytest.raises(DataError, match="0 records for world size 2, batch size 4, drop_last True"):
        build_loader(empty, batch_size=4, drop_last=True, shuffle=True, world_size=2)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": 1, "num_workers": -1}, {"batch_size": 1, "rank": 1}]
)
def test_wrong_numbers_are_refused(folder, options):
    with pytest.raises(ConfigError, match="batch_size >= 1, num_workers >= 0"):
        build_loader(_dataset(folder), **options)


@pytest.mark.parametrize("num_workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_bad_image_is_counted_in_training_and_named_in_validation(tmp_path, caplog, num_workers):
    folder = write_coco_folder(tmp_path, 4, size=(32, 40))
    (folder / "train" / "images" / "0002.png").write_bytes(b"")
    loader = build_loader(_dataset(folder), batch_size=2, num_workers=num_workers)
    with caplog.at_level(logging.WARNING):
        assert _names(loader) == [["0000.png", "0001.png"], ["0003.png", "0003.png"]]
        assert len(list(loader)) == 2
    assert list(loader.skipped.values()) == [2]
    assert caplog.text.count("the next usable image takes its place") == 1
    validation = build_loader(_dataset(folder, training=False), batch_size=2, num_workers=num_workers)
    with pytest.raises(DataError, match=r"^image '.*0002\.png' cannot be read: [^\n]*$"):
        list(validation)
