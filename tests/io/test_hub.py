"""The download says what is wrong and what to do; a local path never touches the network."""

import re
import socket
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors

from sam3.errors import CheckpointError
from sam3.io import hub
from sam3.io.checkpoint import load_into, read_checkpoint
from tests.io.weights import image_model, released_file


class Response:
    """As much of an HTTP answer as the hub's errors read."""

    def __init__(self, status_code: int) -> None:
        self.status_code, self.headers, self.request, self.text = status_code, {}, None, ""


def hub_error(kind: type[Exception], status_code: int) -> Exception:
    return kind("from the hub", response=Response(status_code))


FAILURES = [
    (lambda: hub_error(errors.GatedRepoError, 403), "gated and has not been granted"),
    (lambda: hub_error(errors.RepositoryNotFoundError, 401), "does not accept the login"),
    (lambda: hub_error(errors.HfHubHTTPError, 401), "does not accept the login"),
    (lambda: errors.LocalTokenNotFoundError("no token"), "does not accept the login"),
    (lambda: errors.LocalEntryNotFoundError("nothing cached"), "cannot be reached"),
    (lambda: errors.OfflineModeIsEnabled("offline"), "offline mode is on"),
    (lambda: hub_error(errors.HfHubHTTPError, 503), "HfHubHTTPError: from the hub"),
    (lambda: ConnectionError("no route to host"), "ConnectionError: no route to host"),
]


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that answers the first question."""
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: None)


@pytest.mark.usefixtures("reachable")
@pytest.mark.parametrize(("error", "reason"), FAILURES)
def test_failures_say_what_to_do(error, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_named: object) -> str:
        raise error()

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(CheckpointError, match=reason) as caught:
        hub.download_released_weights()
    for remedy in ("https://huggingface.co/facebook/sam3", "hf auth login", "checkpoint_path=", "load_from_HF=False"):
        assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "reason"), [*FAILURES[:4], FAILURES[5], (lambda: OSError("no route"), "the hub cannot be reached")]
)
def test_without_access_no_download_is_tried(error, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> None:
        assert re.fullmatch(r"https://huggingface\.co/facebook/sam3/resolve/\w+/sam3\.pt", url)
        raise error()

    def download(*_request: str) -> str:
        raise AssertionError("the download, which retries for half a minute, was tried")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_request: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(CheckpointError, match=reason):
        hub.download_released_weights()


def test_a_cached_file_is_found_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> None:
        raise errors.OfflineModeIsEnabled("offline")

    cached = str(tmp_path / "sam3.pt")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_request: cached)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_request: cached)
    assert hub.download_released_weights() == tmp_path / "sam3.pt"


@pytest.mark.usefixtures("reachable")
def test_asks_for_the_released_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(*request: str) -> str:
        asked.append(request)
        return str(tmp_path / "sam3.pt")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert hub.download_released_weights() == tmp_path / "sam3.pt"
    assert asked == [("facebook/sam3", "sam3.pt")]


def test_a_local_file_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_args: object, **_named: object) -> None:
        raise AssertionError("network access was attempted")

    torch.save(released_file(), tmp_path / "sam3.pt")
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, forbidden)
    assert load_into(image_model(), read_checkpoint(tmp_path / "sam3.pt")).unset == []
