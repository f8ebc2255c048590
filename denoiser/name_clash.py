"""A warning when the speech enhancement package `denoiser` of PyPI is installed, which has the same import name."""

import warnings
from importlib.metadata import PackageNotFoundError, version


def warn_if_name_clashes() -> None:
    """Warn if a distribution `denoiser` is installed; this one is called `denoising-autoencoder`."""
    try:
        installed = version("denoiser")
    except PackageNotFoundError:
        return
    warnings.warn(
        f"Another package with the import name denoiser (denoiser {installed}) is installed and may replace files of "
        "this one: run `pip uninstall denoiser`, then reinstall denoising-autoencoder.",
        stacklevel=3,
    )
