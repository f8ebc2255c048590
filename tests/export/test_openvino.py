"""What computes by OpenVINO, in a process of its own: a training in one that has loaded it beside gradio may crash."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CHECKS = Path(__file__).with_name("openvino_checks.py")


def test_openvino_in_a_process_of_its_own():
    if not all(importlib.util.find_spec(name) for name in ("openvino", "onnxscript", "onnxruntime")):
        pytest.skip("the extra [openvino] is not installed")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", str(CHECKS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
