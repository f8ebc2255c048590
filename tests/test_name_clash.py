import os
import subprocess
import sys
import warnings
from pathlib import Path

from denoiser.name_clash import warn_if_name_clashes


def test_another_package_with_the_same_import_name_is_named_in_one_sentence(tmp_path):
    (tmp_path / "denoiser-0.1.5.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: denoiser\nVersion: 0.1.5\n"
    (tmp_path / "denoiser-0.1.5.dist-info" / "METADATA").write_text(metadata)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(tmp_path)])}
    result = subprocess.run(
        [sys.executable, "-c", "import denoiser"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    (warning,) = [line for line in result.stderr.splitlines() if "UserWarning" in line]
    assert "(denoiser 0.1.5)" in warning and "pip uninstall denoiser" in warning
    assert warning.startswith("<string>:1:")  # where it is imported, not inside the package


def test_without_one_there_is_nothing_to_say():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn_if_name_clashes()
    assert not said
