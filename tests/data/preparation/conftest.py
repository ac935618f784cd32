from collections.abc import Iterator
from pathlib import Path

import pytest

from sam3.data.preparation.download import Client
from tests.data.preparation.server import Site, serve


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as running:
        yield running


@pytest.fixture
def client() -> Client:
    return Client(tries=3, timeout=5, pause=0.01)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a stand-in for an external program on the search path: ``program(name, shell text)``."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(name: str, text: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    return make
