"""Typed errors. Each message says what happened and what to do next."""


class DenoiserError(Exception):
    """Base of all errors of this package."""


class CheckpointNotFound(DenoiserError):
    """No folder, bundled checkpoint or Hub repository has this name (or revision)."""


class CheckpointGated(DenoiserError):
    """The repository exists, but its owner requires users to request access."""


class CheckpointInvalid(DenoiserError):
    """The checkpoint exists, but its config, tensors or values are not valid."""


class HubUnreachable(DenoiserError):
    """The Hub did not answer, and the checkpoint is neither bundled nor cached."""


class CannotPublish(DenoiserError):
    """Nothing was pushed to the Hub."""


class CannotExport(DenoiserError):
    """No graph was written."""


class ImageUnreadable(DenoiserError, ValueError):
    """The picture cannot be read, or not without loss."""


class FormatLibraryMissing(ImageUnreadable):
    """The picture's format is read by a library that is not installed."""


class SeveralFrames(ImageUnreadable):
    """The file holds several frames or pages where one picture is wanted.

    Attributes:
        count: How many.
    """

    def __init__(self, message: str, count: int):
        super().__init__(message)
        self.count = count

    def __reduce__(self) -> tuple[type, tuple[str, int]]:  # to and from other processes
        return type(self), (str(self), self.count)


class ImageTooLarge(DenoiserError, ValueError):
    """The picture has more pixels than the limit allows."""
