"""A checkpoint's name -> its folder: a local folder, a bundled checkpoint, or a Hub repository, in this order."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors as hub_errors

from .errors import CheckpointGated, CheckpointInvalid, CheckpointNotFound, HubUnreachable
from .models import CONFIG_FILE, WEIGHTS_FILE

BUNDLED = Path(__file__).parent / "checkpoints"
DEFAULT_CHECKPOINT = "color-small"
FILES = [CONFIG_FILE, WEIGHTS_FILE, "README.md"]


def bundled_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package, the default first."""
    names = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG_FILE}"))
    return sorted(names, key=lambda name: name != DEFAULT_CHECKPOINT)


def find_checkpoint(name: str | Path, revision: str | None = None, token: str | bool | None = None) -> Path:
    """The folder that holds checkpoint ``name``, downloaded into the Hub's cache if need be.

    Args:
        name: A folder, the name of a bundled checkpoint, or a Hub id "user/repo", tried in this order.
        revision: Branch, tag or commit of a Hub repository.
        token: For private repositories; by default the one the ``hf`` command line stored.

    Raises:
        CheckpointNotFound: None of the three has it.
        CheckpointGated: The repository wants its users to ask for access.
        CheckpointInvalid: The repository is no checkpoint of ours.
        HubUnreachable: The Hub does not answer and the cache does not have it.
    """
    folder = Path(name).expanduser()
    if str(name) and folder.is_dir():  # Path("") is the current folder
        return folder
    if name in bundled_checkpoints():
        return BUNDLED / name
    # A Path was meant as a path, whatever it looks like.
    if isinstance(name, Path) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointNotFound(
            f"There is no checkpoint {str(name)!r}: no folder, not bundled ({', '.join(bundled_checkpoints())}), and "
            "a Hub repository is written user/name."
        )
    with _typed_errors(name, revision):
        return Path(huggingface_hub.snapshot_download(name, revision=revision, token=token, allow_patterns=FILES))


@contextlib.contextmanager
def _typed_errors(name: str, revision: str | None) -> Iterator[None]:
    """huggingface_hub's errors as ours. The order matters: a gated repository is also a RepositoryNotFoundError."""
    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
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
            f"checkpoint: {', '.join(bundled_checkpoints())}."
        ) from error
    except hub_errors.EntryNotFoundError as error:
        raise CheckpointInvalid(f"{name}{at} lacks a file of a checkpoint: {error}") from error
    except (hub_errors.HfHubHTTPError, OSError) as error:
        raise HubUnreachable(f"The Hub did not deliver {name}{at}: {type(error).__name__}. Try again later.") from error
