import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("installed", [False, True])
def test_another_package_with_the_same_import_name_is_named_in_one_sentence(tmp_path, installed):
    if installed:
        (tmp_path / "denoiser-0.1.5.dist-info").mkdir()
        metadata = "Metadata-Version: 2.1\nName: denoiser\nVersion: 0.1.5\n"
        (tmp_path / "denoiser-0.1.5.dist-info" / "METADATA").write_text(metadata)
    code = "import denoiser"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(tmp_path)])}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if "UserWarning" in line]
    assert len(warnings) == installed
    assert not installed or ("(denoiser 0.1.5)" in warnings[0] and "pip uninstall denoiser" in warnings[0])
    assert not installed or warnings[0].startswith("<string>:1:")  # where it is imported, not inside the package
