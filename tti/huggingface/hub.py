"""Uploading exports to the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it is there, by lazy loading

LOG_IN = "Run `hf auth login` once, or set HF_TOKEN to a token with write access"


def require_name(repository: str) -> None:
    """Check the name of a repository before anything is written.

    Raises:
        ValueError: the name is invalid.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ValueError(f"push={repository} is not the name of a repository: {error}") from error
    if "/" not in repository:
        raise ValueError(f"push={repository} has no owner: push=OWNER/{repository}")


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload an export, replacing the repository's files; returns its address.

    Args:
        folder: the export.
        repository: ``OWNER/NAME``, created if it does not exist.
        private: whether a new repository is private.

    Raises:
        ValueError: nobody is logged in, the Hub refuses, or it cannot be reached. The export stays as it is.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export by tti")
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise ValueError(f"the Hub refuses {folder} as {repository}: {error}. {LOG_IN}") from error
    except (OfflineModeIsEnabled, OSError) as error:
        raise ValueError(
            f"the Hub cannot be reached ({error}); {folder} is complete: "
            "repeat the command with overwrite=true to upload it"
        ) from error
    return str(address)
