"""Check what ``python -m build`` made: what is in it, what it says of itself, and that it works without the demo.

python .ci/check_dist.py dist
"""

import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
EXTRA = ("accelerate", "gradio", "gradio_client", "httpx", "matplotlib", "onnx", "onnxruntime", "openvino", "starlette")
"""Packages that only extras bring."""
FORBIDDEN = re.compile(r"^(tests|train|benchmarks|examples|docs|data|runs)/|\.pyc$|\.pt$|\.tar$")


def expected_files() -> set[str]:
    """Every tracked file of the package: modules, checkpoints, templates, styles and the type marker."""
    listed = subprocess.run(["git", "ls-files", "denoiser"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def check_wheel(path: Path) -> None:
    """Files and metadata of the wheel."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        info = next(name for name in names if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        scripts = wheel.read(f"{info}/entry_points.txt").decode()
    missing = expected_files() - names
    assert not missing, f"not in the wheel: {sorted(missing)}"
    assert not (bad := [name for name in names if FORBIDDEN.search(name)]), f"in the wheel: {bad}"
    assert f"{info}/licenses/LICENSE" in names and "denoiser/py.typed" in names
    version = re.search(r'__version__ = "(.+)"', (ROOT / "denoiser" / "__init__.py").read_text(encoding="utf-8"))[1]
    stated = (metadata["Name"], metadata["Version"], metadata["License-Expression"])
    assert stated == ("denoising-autoencoder", version, "Apache-2.0"), stated
    plain = [need for need in metadata.get_all("Requires-Dist") if "extra ==" not in need]
    assert not [need for need in plain if re.match("gradio|accelerate|matplotlib|pytest", need)], plain
    assert {"demo", "train", "dev"} <= set(metadata.get_all("Provides-Extra"))
    programs = dict(re.findall(r"^([\w-]+) = ([\w.]+):main$", scripts, re.MULTILINE))
    assert programs.keys() == {"denoise", "denoiser-demo"}, scripts
    assert not (bad := [one for one in programs.values() if one.replace(".", "/") + ".py" not in names]), bad


def check_sdist(path: Path) -> None:
    """Files of the source distribution."""
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    missing = (expected_files() | {"LICENSE", "README.md", "pyproject.toml"}) - names
    assert not missing, f"not in the source distribution: {sorted(missing)}"
    assert not (bad := [name for name in names if FORBIDDEN.search(name)]), f"in the source distribution: {bad}"


def check_installed(path: Path) -> None:
    """The wheel in an environment of its own, which has the dependencies of this one but those of the extras."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(f"{folder}/clean", with_pip=False)
        bin_folder = Path(folder, "clean", "bin")
        site = next(Path(folder, "clean", "lib").glob("python*/site-packages"))
        pip = [sys.executable, "-m", "pip", "--python", bin_folder / "python"]
        subprocess.run([*pip, "install", "--quiet", "--no-deps", path], check=True)
        # The .pth of an editable install is not read in a folder that comes by a .pth itself.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        for name in EXTRA:
            (site / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}')\n", encoding="utf-8")
        Image.effect_noise((64, 64), 25).convert("RGB").save(f"{folder}/noisy.png")
        run = {"cwd": folder, "check": True}
        subprocess.run([bin_folder / "denoise", "--help"], stdout=subprocess.DEVNULL, **run)
        subprocess.run([bin_folder / "denoise", "noisy.png", "-o", "clean.png", "--checkpoint", "color-small"], **run)
        with Image.open(f"{folder}/clean.png") as clean:
            assert clean.size == (64, 64)
        refused = subprocess.run([bin_folder / "denoiser-demo"], capture_output=True, text=True, cwd=folder).stderr
        assert "pip install 'denoising-autoencoder[demo]'" in refused, refused
        where = [bin_folder / "python", "-c", "import denoiser; print(denoiser.__file__)"]
        found = subprocess.run(where, capture_output=True, text=True, **run).stdout
        assert found.startswith(str(site)), f"another denoiser was imported: {found}"
        check_types(Path(folder, "clean"), folder)


def check_types(environment: Path, folder: str) -> None:
    """Every public name has a known type: what users' type checkers see.

    ``denoiser.demo`` is a program, not a library: plain pyright checks it.
    """
    outside = os.environ | {"VIRTUAL_ENV": str(environment), "PATH": f"{environment}/bin:{os.environ['PATH']}"}
    command = ["pyright", "--verifytypes", "denoiser", "--ignoreexternal", "--outputjson"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=outside).stdout
    names = [entry for entry in json.loads(answer)["typeCompleteness"]["symbols"] if entry["isExported"]]
    public = [entry for entry in names if not entry["name"].startswith("denoiser.demo.")]
    unknown = [entry for entry in public if entry["diagnostics"] and not entry["isTypeKnown"]]
    messages = [f"{entry['name']}: {found['message']}" for entry in unknown for found in entry["diagnostics"]]
    assert public and not messages, "\n".join(messages)


def main() -> None:
    """The command line."""
    dist = Path(sys.argv[1]).resolve()
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    check_wheel(wheel)
    check_sdist(sdist)
    check_installed(wheel)
    print(f"{wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB) and {sdist.name} are complete; the wheel works alone")


if __name__ == "__main__":
    main()
