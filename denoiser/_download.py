"""Files of a Hub repository, with errors a caller can tell apart."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors

from .errors import CheckpointGated, CheckpointInvalid, CheckpointNotFound, DenoiserError, HubUnreachable


def download(repo_id: str, files: list[str], revision: str | None = None, **options) -> Path:
    """The cached folder with ``files`` of a repository, those that it has.

    Args:
        repo_id: "user/repo".
        files: Names of files.
        revision: Branch, tag or commit.
        options: For ``huggingface_hub.snapshot_download``: token, cache_dir, force_download, local_files_only.

    Raises:
        CheckpointNotFound: No such repository or revision, or it is private.
        CheckpointGated: The repository wants its users to ask for access.
        CheckpointInvalid: The repository lacks a file.
        HubUnreachable: The Hub does not answer and the cache does not have it.
    """
    with typed_errors(repo_id, revision):
        return Path(huggingface_hub.snapshot_download(repo_id, revision=revision, allow_patterns=files, **options))


@contextlib.contextmanager
def typed_errors(name: str, revision: str | None) -> Iterator[None]:
    """huggingface_hub's errors as ours. The order matters: a gated repository is also a RepositoryNotFoundError."""
    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
    except DenoiserError:
        raise
    except hub_errors.GatedRepoError as error:
        raise CheckpointGated(
            f"{name} is gated: ask for access at https://huggingface.co/{name}, then log in with `hf auth login`."
        ) from error
    except (
        hub_errors.RepositoryNotFoundError,
        hub_errors.RevisionNotFoundError,
        hub_errors.HFValidationError,
    ) as error:
        raise CheckpointNotFound(
            f"There is no repository {name}{at} on the Hub, or it is private: check the spelling, or log in with "
            "`hf auth login`."
        ) from error
    except hub_errors.LocalEntryNotFoundError as error:
        raise HubUnreachable(
            f"{name}{at} is not in the cache and the Hub could not be asked. Check the network, or use a bundled "
            "checkpoint."
        ) from error
    except hub_errors.EntryNotFoundError as error:
        raise CheckpointInvalid(f"{name}{at} lacks a file of a checkpoint: {error}") from error
    except Exception as error:
        if isinstance(error, hub_errors.HfHubHTTPError) or is_network_error(error):
            raise HubUnreachable(
                f"The Hub did not deliver {name}{at}: {type(error).__name__}. Try again later."
            ) from error
        raise


def is_network_error(error: Exception) -> bool:
    """Whether the Hub could not be talked to.

    The client lets its HTTP library's errors through (httpx's or httpx2's, by version), which are no OSErrors.
    """
    return isinstance(error, OSError) or type(error).__module__.startswith("http")
