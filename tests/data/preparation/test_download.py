import os
from pathlib import Path

import pytest

from sam3.data.preparation.download import Client, DownloadError, in_parallel
from sam3.errors import DataError
from tests.data.preparation.server import Site

DATA = os.urandom(300_000)


def test_a_file_appears_whole_and_is_not_fetched_twice(site: Site, client: Client, tmp_path: Path):
    site.files["/a"] = DATA
    assert client.download(f"{site.address}/a", tmp_path / "Ordner ä" / "a.bin")
    assert not client.download(f"{site.address}/a", tmp_path / "Ordner ä" / "a.bin")
    assert (tmp_path / "Ordner ä" / "a.bin").read_bytes() == DATA
    assert [path.name for path in (tmp_path / "Ordner ä").iterdir()] == ["a.bin"]
    assert len(site.asked) == 1


def test_a_broken_connection_goes_on_where_it_broke(site: Site, client: Client, tmp_path: Path):
    site.files["/a"], site.break_after["/a"] = DATA, [100_000, 50_000]
    client.download(f"{site.address}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    assert [asked for _, asked in site.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert site.sent == len(DATA)


def test_a_killed_download_is_resumed_by_the_next_call(site: Site, tmp_path: Path):
    site.files["/a"], site.break_after["/a"] = DATA, [100_000]
    impatient = Client(tries=1, timeout=5)
    with pytest.raises(DownloadError, match="run again to go on"):
        impatient.download(f"{site.address}/a", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    impatient.download(f"{site.address}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    assert site.asked[1][1] == "bytes=100000-"


def test_a_file_that_changed_in_between_is_fetched_anew(site: Site, tmp_path: Path):
    site.files["/a"], site.break_after["/a"] = DATA, [100_000]
    impatient = Client(tries=1, timeout=5)
    with pytest.raises(DownloadError):
        impatient.download(f"{site.address}/a", tmp_path / "a")
    site.files["/a"], site.tags["/a"] = DATA[::-1], '"two"'
    impatient.download(f"{site.address}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA[::-1]


def test_a_part_longer_than_the_file_is_fetched_anew(site: Site, client: Client, tmp_path: Path):
    site.files["/a"] = DATA
    (tmp_path / "a.part").write_bytes(DATA + b"more")
    (tmp_path / "a.part.json").write_text('{"version": "\\"one\\""}')
    client.download(f"{site.address}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA


def test_overload_is_waited_for_and_absence_is_not(site: Site, client: Client, tmp_path: Path):
    site.files["/a"], site.refuse["/a"] = DATA, [503, 429]
    client.download(f"{site.address}/a", tmp_path / "a")
    assert len(site.asked) == 3
    with pytest.raises(DownloadError, match=r"/b: HTTP 404"):
        client.download(f"{site.address}/b", tmp_path / "b")
    assert len(site.asked) == 4


def test_no_server(client: Client, tmp_path: Path):
    with pytest.raises(DownloadError, match="gave up after 3 attempts"):
        client.download("http://127.0.0.1:9/a", tmp_path / "a")


def test_json(site: Site, client: Client):
    site.files["/a"], site.files["/b"] = b'{"x": 1}', b"<html>"
    assert client.json(f"{site.address}/a") == {"x": 1}
    with pytest.raises(DownloadError, match="does not answer with JSON"):
        client.json(f"{site.address}/b")


def test_one_failure_stops_no_other():
    def work(name: str) -> bool:
        if name == "bad":
            raise DataError("broken")
        return name == "new"

    outcome = in_parallel(["new", "bad", "old", "new"], work, workers=2, title="jobs")
    assert (outcome.done, outcome.already_there, outcome.failed) == (1, 1, {"bad": "broken"})
    with pytest.raises(DownloadError, match=r"1 files could not be prepared:\n  bad: broken\nagain"):
        outcome.require_success("again")
