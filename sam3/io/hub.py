"""The released weights from the Hugging Face hub. Nothing here runs unless no local file is named."""

from pathlib import Path

from sam3.errors import CheckpointError

REPOSITORY = "facebook/sam3"
FILE_NAME = "sam3.pt"
_REMEDY = (
    f"To use the released weights, request access at https://huggingface.co/{REPOSITORY}, run `hf auth login` (or set "
    "HF_TOKEN), and try again; or pass checkpoint_path=<a weight file on this machine>; or load_from_HF=False for "
    "random weights."
)


def download_released_weights() -> Path:
    """Path of ``sam3.pt`` in the local cache of ``huggingface_hub``, downloaded when it is not there yet.

    Raises:
        CheckpointError: no access to the gated repository, not logged in, offline, or no network; the
            message says which, and what to do.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    try:
        if not isinstance(try_to_load_from_cache(REPOSITORY, FILE_NAME), str):
            _require_access()
        return Path(hf_hub_download(REPOSITORY, FILE_NAME))
    except Exception as error:  # the library raises errors of several HTTP clients besides its own
        raise CheckpointError(f"cannot download {FILE_NAME} of {REPOSITORY}: {_reason(error)}. {_REMEDY}") from error


def _require_access() -> None:
    """One short question to the hub: the download itself would ask six times in half a minute before it gives up."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(REPOSITORY, FILE_NAME))
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, errors.LocalTokenNotFoundError):
        raise
    except Exception as error:  # of whichever HTTP client the library uses: no connection
        raise errors.LocalEntryNotFoundError(str(error)) from error


def _reason(error: Exception) -> str:
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return "access to the repository is gated and has not been granted to this account"
    if status == 401 or isinstance(error, errors.RepositoryNotFoundError | errors.LocalTokenNotFoundError):
        return "the hub does not accept the login of this machine, or there is none"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "offline mode is on (HF_HUB_OFFLINE) and the file is not in the local cache"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "the hub cannot be reached (offline, or HF_HUB_OFFLINE is set) and the file is not in the local cache"
    return f"{type(error).__name__}: {error}".split("\n")[0]
