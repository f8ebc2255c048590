"""Every option of the demo in one object. What a host may set comes from the environment; the rest are limits."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DenoiserError
from ..hub.catalogue import TAG
from ..hub.checkpoints import DEFAULT_CHECKPOINT
from .model_pool import checkpoint_key

EXAMPLES_FOLDER = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Settings:
    """Options of the demo.

    Attributes:
        checkpoint: The checkpoint a visitor starts with.
        checkpoints: More names to offer. Those on the Hub are fetched with the host's token.
        author: Offer what this account has on the Hub under the tag.
        collection: Offer the models of this collection of the Hub (its slug).
        tag: Offer what carries this tag on the Hub; "" for none.
        max_weights_bytes: Larger weights are not fetched.
        on_device: The folder of the page that computes in the browser, which web/build.py writes; None for none.
        examples_folder: Its JPEG files are the examples. A checkout has them, an installed package does not.
        interactive_pixels: Up to here a slider's answer comes at once on two cores; larger photos are reduced first.
        max_pixels: What a machine with 16 GB computes and compares in full without trouble.
        max_seconds: What one picture may take while everyone else waits.
        max_upload: Size of an upload, as gradio writes it.
        max_request_bytes: Size of a request that is no upload; the page's are a few thousand bytes.
        max_queued_calls: Calls of one kind, of all visitors, that wait or are under way.
        max_session_calls: Calls of one kind that a session may have waiting or under way.
        max_address_calls: The same for a network address.
        max_temporary_bytes: Size of all uploads and results on the disk; beyond it the oldest are deleted.
        result_seconds: How long our own copy of a result is kept; gradio copies it right after the call.
    """

    checkpoint: str = DEFAULT_CHECKPOINT
    checkpoints: tuple[str, ...] = ()
    author: str = ""
    collection: str = ""
    tag: str = TAG
    max_weights_bytes: int = 500_000_000
    on_device: Path | None = None
    examples_folder: Path = EXAMPLES_FOLDER
    interactive_pixels: int = 1_000_000
    max_pixels: int = 25_000_000
    max_seconds: float = 120.0
    max_upload: str = "60mb"
    max_request_bytes: int = 1_000_000
    max_queued_calls: int = 64
    max_session_calls: int = 8
    max_address_calls: int = 32
    max_temporary_bytes: int = 2_000_000_000
    result_seconds: float = 60.0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """The settings that the environment variables ``DENOISER_*`` give; gradio's port is checked.

        Raises:
            ValueError: A variable holds what cannot be used; the message names it.
        """

        def read(name: str, parse: Callable[[str], Any], default: Any) -> Any:
            try:
                return parse(environ[name]) if environ.get(name) else default
            except (DenoiserError, ValueError) as error:
                raise ValueError(f"in {name}: {error}") from error

        read("GRADIO_SERVER_PORT", _port, None)  # gradio takes it, and ends in a traceback
        return cls(
            checkpoint=read("DENOISER_CHECKPOINT", checkpoint_key, cls.checkpoint),
            checkpoints=read("DENOISER_CHECKPOINTS", _keys, cls.checkpoints),
            author=environ.get("DENOISER_AUTHOR", ""),
            collection=environ.get("DENOISER_COLLECTION", ""),
            tag=environ.get("DENOISER_TAG", TAG),
            max_weights_bytes=read("DENOISER_MAX_MB", _millions, cls.max_weights_bytes),
            on_device=read("DENOISER_ON_DEVICE", check_site, cls.on_device),
            examples_folder=read("DENOISER_EXAMPLES", _folder, cls.examples_folder),
            interactive_pixels=read("DENOISER_LIVE_MP", _millions, cls.interactive_pixels),
            max_temporary_bytes=read("DENOISER_TEMP_MB", _millions, cls.max_temporary_bytes),
        )

    @property
    def trusted_names(self) -> tuple[str, ...]:
        """The host's own choice of repositories on the Hub."""
        return tuple(dict.fromkeys(name for name in (self.checkpoint, *self.checkpoints) if "/" in name))

    @property
    def examples(self) -> list[Path]:
        """The example photos, the one that the page starts with first."""
        return sorted(self.examples_folder.glob("*.jpg"), key=lambda path: (path.stem != "temple", path.name))


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"{text} is no port, a number from 1 to 65535")
    return int(text)


def _keys(names: str) -> tuple[str, ...]:
    return tuple(checkpoint_key(name) for name in re.split(r"[\s,]+", names) if name)


def _millions(number: str) -> int:
    millions = float(number) * 1e6
    if not 1 <= millions < 1e15:  # False for NaN too
        raise ValueError(f"{number} is no number above 0")
    return int(millions)


def _folder(name: str) -> Path:
    if not Path(name).is_dir():
        raise ValueError(f"there is no folder {name}")
    return Path(name)


def check_site(name: str) -> Path:
    """A folder that ``web/build.py`` wrote.

    Raises:
        ValueError: It is none.
    """
    folder = Path(name)
    if not (folder / "models" / "models.json").is_file():
        raise ValueError(f"{folder} has no page for the browser: write it with `python web/build.py {folder}`")
    return folder
