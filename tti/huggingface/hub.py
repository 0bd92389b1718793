"""Exports on the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # it is there, by lazy loading

LOG_IN = "`hf auth login` once, or set HF_TOKEN, with a token that may write"


def require_name(repository: str) -> None:
    """Check the name of a repository before anything is written.

    Raises:
        ValueError: it is none.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ValueError(f"push={repository} names no repository: {error}") from error
    if "/" not in repository:
        raise ValueError(f"push={repository} has no owner: push=OWNER/{repository}")


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload an export, in the place of what the repository has of it; its address.

    Args:
        folder: the export.
        repository: ``OWNER/NAME``, made if it is not there.
        private: whether a new one is.

    Raises:
        ValueError: nobody is logged in, the Hub refuses, or it cannot be reached. The export stays as it is.
    """
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export by tti")
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise ValueError(f"the Hub does not take {folder} as {repository}: {error}. {LOG_IN}") from error
    except (OfflineModeIsEnabled, OSError) as error:
        raise ValueError(
            f"the Hub cannot be reached ({error}); {folder} is there, the same command with overwrite=true uploads it"
        ) from error
    return str(address)
