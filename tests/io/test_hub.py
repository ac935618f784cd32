"""The download says what is wrong and what to do; a local path never touches the network."""

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
