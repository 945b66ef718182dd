"""A model folder -> a repository of a Hugging Face hub, when a user asks for it."""

from __future__ import annotations

from pathlib import Path

from seethink.core.redact import visible
from seethink.export.folder import ExportError


def refuse_push(repo: str) -> None:
    """For the beginning, as an export takes minutes. Raises ExportError where a push to `repo` cannot work."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ExportError(f"--push: expected OWNER/NAME, found {repo!r}: {error}") from None
    if "/" not in repo:
        raise ExportError(f"--push: expected OWNER/NAME, found {repo!r}")
    if constants.HF_HUB_OFFLINE:
        raise ExportError("--push: HF_HUB_OFFLINE is set; unset it to reach the hub")
    if get_token() is None:
        raise ExportError("--push: no token of the hub is known; set HF_TOKEN, or run `hf auth login`")


def push_folder(folder: Path, repo: str, *, public: bool = False) -> str:
    """Upload a model folder as one commit.

    A repository that does not exist is made, private unless `public`; one that exists keeps its visibility and its
    history. The hub is that of `HF_ENDPOINT`, the token that of `HF_TOKEN` or of `hf auth login`.

    Returns:
        Address of the commit.

    Raises:
        ExportError: The hub refused or did not answer; the folder stays.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo, private=not public, exist_ok=True)
        commit = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"{folder.name}, made by seethink")
    except (OSError, ValueError) as error:  # the library's errors are kinds of these; none holds the token
        said = visible(" ".join(str(error).split())[:300])
        raise ExportError(
            f"--push: {repo} was not written: {said}. {folder} is whole: `hf upload {repo} {folder}` tries again"
        ) from None
    return str(commit.commit_url)
