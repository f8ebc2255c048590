"""A checkpoint's name -> its folder: a local folder, a bundled checkpoint, or a Hub repository, in this order."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..download.checkpoint_files import CONFIG_FILE, MAX_WEIGHTS_BYTES
from ..download.fetch import check_name, fetch
from ..errors import CheckpointNotFound
from ..models import check_config_file

BUNDLED = Path(__file__).parents[1] / "checkpoints"
DEFAULT_CHECKPOINT = "color-base"
PURPOSES = {
    "color-base": "color pictures; the default",
    "color-large": "color pictures, better and slower: 0.1 to 0.2 dB better than color-base in 3 to 4 times its time",
    "color-small": "color pictures, in about half the time",
    "gray-base": "gray pictures: scans, microscopes",
    "photo": "noisy photographs as cameras write them: takes no noise level",
    "bottleneck-color": "seeing what a plain autoencoder can do",
}
"""What each bundled checkpoint is for."""
ADDRESS = "https://huggingface.co/"


@dataclass(frozen=True)
class Checkpoint:
    """Where a checkpoint is.

    Attributes:
        name: Its name in messages: as requested, without the revision.
        folder: Holds config.json, model.safetensors and usually README.md.
        revision: The commit on the Hub; None for folders and bundled checkpoints.
        last_modified: Date of that commit, ISO; "" if unknown.
        note: What the user should know about how it was found; usually "".
    """

    name: str
    folder: Path
    revision: str | None = None
    last_modified: str = ""
    note: str = ""


def bundled_checkpoints() -> list[str]:
    """Names of the checkpoints that come with the package, the default first."""
    names = sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG_FILE}"))
    return sorted(names, key=lambda name: name != DEFAULT_CHECKPOINT)


def find_bundled(name: str) -> Checkpoint:
    """The bundled checkpoint of this name, also where the current folder has a folder of that name."""
    return Checkpoint(name, BUNDLED / name)


def parse_name(text: str) -> tuple[str, str | None]:
    """A Hub repository as people write it -> "user/repo" and the revision, if there is one.

    Accepted are ``user/repo``, ``user/repo@revision``, and the address of its page.

    Raises:
        CheckpointNotFound: It cannot be one.
    """
    text = str(text).strip().removeprefix(ADDRESS).rstrip("/")
    name, _, revision = text.partition("@")
    if not revision and "/tree/" in name:
        name, _, revision = name.partition("/tree/")
    if name.count("/") != 1:
        raise CheckpointNotFound(
            f"{text[:120]!r} is no checkpoint: a Hub repository is written user/name or user/name@revision."
        )
    check_name(name, revision or None)
    return name, revision or None


def find_on_hub(name: str, revision: str | None = None, **options: Any) -> Checkpoint:
    """A Hub repository's checkpoint, downloaded if needed.

    Options and errors are those of :func:`denoiser.download.fetch.fetch`.
    """
    name, named = parse_name(name)
    if named and revision not in (None, named):
        raise CheckpointNotFound(f"{name}@{named} and revision {revision!r} exclude each other: leave one of them out.")
    found = fetch(
        name,
        named if revision is None else revision,
        check=lambda config: check_config_file(config.parent, name),
        **options,
    )
    return Checkpoint(name, found.folder, found.commit, found.last_modified, found.note)


def find_checkpoint(
    name: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    max_bytes: int = MAX_WEIGHTS_BYTES,
) -> Checkpoint:
    """The checkpoint called ``name``, downloaded into the cache of the Hub client if needed.

    Args:
        name: A folder, the name of a bundled checkpoint, or a Hub id "user/repo" (or "user/repo@revision"), tried in
            this order.
        revision: Branch, tag or commit of a Hub repository.
        token: For private repositories; by default the one the ``hf`` command line stored. False: none.
        max_bytes: Larger weights are refused.

    Raises:
        CheckpointNotFound: It is none of the three, or a revision is named of what is not on the Hub.
        CheckpointGated: The owner of the repository requires users to request access.
        CheckpointInvalid: The repository is not a checkpoint of this package, or is too large.
        HubUnreachable: The Hub does not answer and the cache does not have it.
        TypeError: The name or the revision is no text.
    """
    if not isinstance(name, str | os.PathLike) or not isinstance(revision, str | None):
        wrong = name if isinstance(revision, str | None) else revision
        raise TypeError(f"a checkpoint is named by text, and so is its revision: got {wrong!r:.120}")
    folder = Path(os.path.expanduser(name))  # that of Path fails where there is no such user
    bundled = str(name).rstrip("/") in bundled_checkpoints()
    # Path("") is the current folder; a folder of pictures called "photo" is not meant.
    local = bool(str(name)) and os.path.isdir(folder) and (not bundled or (folder / CONFIG_FILE).is_file())
    if revision and (local or bundled):
        raise CheckpointNotFound(
            f"There is no revision {revision!r} of {name}, which is {'a folder' if local else 'bundled'}: leave "
            "it out, or name a Hub repository."
        )
    if local:
        return Checkpoint(str(name), folder.absolute())  # the current folder may change
    if bundled:
        return find_bundled(str(name).rstrip("/"))
    # A Path is never a Hub id.
    if isinstance(name, Path) or name.removeprefix(ADDRESS).startswith((".", "/", "~")) or "/" not in name:
        raise CheckpointNotFound(
            f"There is no checkpoint {str(name)!r}: no folder, not bundled ({', '.join(bundled_checkpoints())}), and "
            "a Hub repository is written user/name."
        )
    return find_on_hub(name, revision, token=token, max_bytes=max_bytes)
