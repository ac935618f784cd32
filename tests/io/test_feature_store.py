"""Tensors on disk by key."""

import logging

import torch

from sam3.io.feature_store import FeatureMemory, FeatureStore


def test_what_was_put_comes_back_in_another_store(tmp_path):
    store = FeatureStore(tmp_path / "特征", 10**6)
    tensor = torch.randn(1, 3, 2).permute(0, 2, 1)
    assert store.get("a/0123") is None
    store.put("a/0123", tensor)
    other = FeatureStore(tmp_path / "特征", 10**6)
    assert torch.equal(other.get("a/0123"), tensor)
    assert other.get("b/0123") is None
    assert other.size == store.size > tensor.nbytes


def test_a_full_store_says_so_once_and_keeps_what_it_has(tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="sam3")
    store = FeatureStore(tmp_path, 1000)
    for name in ("aa", "bb", "cc"):
        store.put(name, torch.zeros(150))
    assert [store.get(name) is None for name in ("aa", "bb", "cc")] == [False, True, True]
    assert caplog.text.count("nothing more is kept") == 1


def test_a_damaged_file_counts_as_missing(tmp_path, caplog):
    store = FeatureStore(tmp_path, 10**6)
    store.put("abcd", torch.zeros(100))
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    assert store.get("abcd") is None
    assert "is damaged and is made anew" in caplog.text
    store.put("abcd", torch.ones(100))
    assert store.get("abcd").all()


def test_features_in_memory_are_copies_and_limited():
    store, tensor = FeatureMemory(limit_bytes=20), torch.arange(4.0)
    store.put("a", tensor)
    tensor.zero_()
    assert store.get("a").tolist() == [0, 1, 2, 3]
    store.put("b", tensor)
    assert store.get("b") is None
    assert store.size == 16
