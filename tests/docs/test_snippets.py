"""That the documentation works: commands are parsed or run, code is run, links lead somewhere."""

import argparse
import importlib.util
import itertools
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import types
import warnings
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState
from packaging.requirements import Requirement
from PIL import Image

import denoiser
from denoiser.__main__ import main as denoise
from denoiser.demo.settings import Settings
from denoiser.download.checkpoint_files import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from denoiser.models import ARCHITECTURES
from denoiser.noise import NOISES
from denoiser.techniques import TECHNIQUES
from tests.conftest import PHOTO, ROOT
from train import on_hub
from train.__main__ import main as train
from train.config import load_config
from train.publish import main as publish

HF = Path(sys.executable).with_name("hf")  # the environment need not be active

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CARDS = sorted(ROOT.glob("denoiser/checkpoints/*/README.md"))
OTHERS = [ROOT / "examples" / "README.md", ROOT / "train" / "EXPERIMENTS.md"]

BLOCK = re.compile(r"^(?:<!-- not run: ([^\n]+) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:\.venv/bin/|python -m |denoise |accelerate |hf |pip install )[^`]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
TOOLS = {"lint-imports": "import-linter", "pyright": "pyright", "ruff": "ruff", "vulture": "vulture"}
"""Commands that check the code, and the packages in the dev extra that bring them."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(
    line.split("==") for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if "==" in line
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language that are to be run."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for reason, of_language, text in found if of_language == language and not reason]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with small pictures of the names that the documentation uses, and the project's own files."""
    with Image.open(PHOTO) as image:
        photo = image.convert("RGB")
    for name in ("noisy.jpg", "noisy.png", "photo.jpg", "photos/a.png", "photos/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        photo.crop((200, 200, 296, 296)).save(tmp_path / name)
    (tmp_path / "photographs").mkdir()
    for index in range(2):
        photo.crop((60 * index, 0, 60 * index + 300, 300)).save(tmp_path / "photographs" / f"{index}.png")
    for name in ("app.py", "docs", "examples", "requirements.txt", "tests", "train"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process trains in one precision only
    yield tmp_path
    AcceleratorState._reset_state(reset_partial_state=True)


class Parsed(Exception):
    """A command line was accepted."""


def parse(program: list[str], arguments: list[str], monkeypatch) -> None:
    """Start a module or script as a program, and stop it once it has parsed its arguments."""
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
        known = argparse.ArgumentParser.parse_args

        def parse_and_stop(parser, *given):
            known(parser, *given)
            raise Parsed

        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [program[-1], *arguments])
        with pytest.raises(Parsed):
            if program[0] == "-m":
                runpy.run_module(program[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(program[0], run_name="__main__")


def check_module(module: str, arguments: list[str], monkeypatch) -> None:
    """``python -m``: what takes a moment is run, of all else the arguments are parsed."""
    if module == "denoiser":
        assert denoise(arguments) == 0
    elif module == "train":
        config = Path(arguments[arguments.index("--config") + 1])
        if config.is_relative_to("train"):
            load_config(config)
            parse(["-m", module], arguments, monkeypatch)
        else:  # a recipe that the page itself gives
            assert train([*arguments, "--steps", "4", "--cpu", "--workers", "0", "--cache", "cache"]) == 0
    elif module == "train.publish" and Path(arguments[0]).exists():
        assert publish([*arguments, "--force"]) == 0  # the run above is of a few steps
    elif module in ("build", "pytest", "venv"):
        assert importlib.util.find_spec(module)
        assert all(Path(argument).exists() for argument in arguments if "/" in argument)
    elif "ArgumentParser" in (source := source_of(module)):
        parse(["-m", module], arguments, monkeypatch)
    else:
        assert not arguments and "def main" in source


def source_of(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{module}.__main__")
    return Path(spec.origin).read_text(encoding="utf-8")


def check_install(arguments: list[str]) -> None:
    """``pip install``: files and extras exist, and versions are those of the tests."""
    for before, argument in zip(["", *arguments], arguments):
        if before == "-r":
            assert Path(argument).is_file()
        elif extras := re.fullmatch(r"\.\[(.+)\]", argument):
            assert set(extras[1].split(",")) <= PROJECT["optional-dependencies"].keys()
        elif before != "--index-url" and not argument.startswith(("-", "git+https://")):
            wanted = Requirement(argument)
            assert not wanted.specifier or str(wanted.specifier) == f"=={PINS[wanted.name]}"
        elif argument.startswith("git+"):
            assert argument.endswith(f"/{PROJECT['name']}")


def check_command(words: list[str], monkeypatch) -> None:
    """One command of the documentation, as words."""
    program, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if program in ("python", "python3") and arguments[0] == "-m":
        check_module(arguments[1], arguments[2:], monkeypatch)
    elif program == "python" and "import deepinv" in (source := Path(arguments[0]).read_text(encoding="utf-8")):
        # It may not be installed; the example's own test runs it where it is.
        assert all(f'"{argument}"' in source for argument in arguments if argument.startswith("-"))
    elif program == "python":
        parse([arguments[0]], arguments[1:], monkeypatch)
    elif program == "denoise":
        assert denoise(arguments) == 0
    elif program == "pip":
        assert arguments[0] == "install"
        check_install(arguments[1:])
    elif program == "accelerate":
        launched = launch_command_parser().parse_args(arguments[1:])
        assert launched.module
        check_module(launched.training_script, launched.training_script_args, monkeypatch)
    elif program == "hf":
        script = next((index for index, argument in enumerate(arguments) if argument.endswith(".py")), len(arguments))
        commands = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments[:script]))[:3]
        help_text = subprocess.run([HF, *commands, "--help"], capture_output=True, text=True, check=True).stdout
        assert all(argument in help_text for argument in arguments[:script] if argument.startswith("--"))
        if script < len(arguments):
            _, passed_on = on_hub.parse_arguments(arguments[script + 1 :])
            check_module("train", [*passed_on, "--output", "runs/hub"], monkeypatch)
    else:
        tools = {Requirement(text).name for text in PROJECT["optional-dependencies"]["dev"]}
        assert TOOLS[program] in tools


def commands(text: str) -> list[list[str]]:
    """The commands of a shell block: lines continued with a backslash joined, comments left out, ``&&`` taken apart."""
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines if not line.startswith("#") for part in line.split(" && ")]
    return [shlex.split(part) for part in parts if part.strip()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_of_a_kind_that_is_tested(page):
    text = page.read_text(encoding="utf-8")
    found = BLOCK.findall(text)
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(found)
    assert {language for _, language, _ in found} <= {"python", "sh", "yaml", "mermaid"}


@pytest.mark.parametrize("page", [page for page in PAGES + CARDS if blocks(page, "sh")], ids=name_of)
def test_the_commands_of_a_page_work(page, workspace, monkeypatch, capsys):
    for text in blocks(page, "yaml"):
        (workspace / text.splitlines()[0].removeprefix("# file: ")).write_text(text, encoding="utf-8")
    for text in blocks(page, "sh"):
        for words in commands(text):
            check_command(words, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_within_sentences_are_accepted(page, workspace, monkeypatch):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for command in INLINE.findall(text):
        if " -" in command.removeprefix("python -m"):  # otherwise it is a program's name
            check_command(shlex.split(command), monkeypatch)


@pytest.mark.parametrize("page", [page for page in PAGES + CARDS if blocks(page, "python")], ids=name_of)
def test_the_code_of_a_page_runs(page, workspace, monkeypatch):
    module = types.ModuleType("snippets")
    monkeypatch.setitem(sys.modules, "snippets", module)
    registries = [(registry, dict(registry)) for registry in (NOISES, ARCHITECTURES, TECHNIQUES)]
    try:
        for index, text in enumerate(blocks(page, "python")):
            exec(compile(text, f"{name_of(page)}, block {index + 1}", "exec"), module.__dict__)
    finally:
        for registry, before in registries:
            registry.clear()
            registry.update(before)


def anchors(page: Path) -> set[str]:
    """The names under which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES + CARDS + OTHERS, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if not re.match(r"https?:|mailto:", target):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def test_the_figures_are_those_that_the_script_makes(workspace, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["figures.py", "--output", "made"])
    runpy.run_path(str(ROOT / "docs" / "figures.py"), run_name="__main__")
    names = {path.name for path in (ROOT / "docs" / "figures").iterdir()}
    assert names == {path.name for path in (workspace / "made").iterdir()}
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    for name in names:
        assert any(f"figures/{name})" in text for text in texts), f"{name} is in no page"
        kept, made = (Image.open(folder / name).convert("L") for folder in (ROOT / "docs" / "figures", Path("made")))
        # Other processors round otherwise, and a JPEG of noise shows it; other weights differ by far more.
        difference = sum(abs(a - b) for a, b in zip(kept.tobytes(), made.tobytes())) / (kept.width * kept.height)
        assert kept.size == made.size and difference < 1, f"{name} is not up to date: python docs/figures.py"


def test_hosting_names_the_environment_variables_that_the_code_reads():
    named = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "hosting.md").read_text("utf-8"), re.MULTILINE))
    code = "".join(path.read_text("utf-8") for path in [ROOT / "app.py", *sorted((ROOT / "denoiser").rglob("*.py"))])
    read = set(re.findall(r"\bDENOISER_[A-Z]\w*", code))
    assert {name for name in named if name.startswith("DENOISER_")} == read
    libraries = [Path(huggingface_hub.__file__).parent / "constants.py", Path(huggingface_hub.utils._auth.__file__)]
    gradio = Path(importlib.util.find_spec("gradio").origin).parent
    libraries += [gradio / "http_server.py", gradio / "utils.py"]
    theirs = "".join(path.read_text(encoding="utf-8") for path in libraries)
    assert all(f'"{name}"' in theirs for name in named - read)


def test_what_a_space_preloads_is_all_that_is_read(hub, tiny_checkpoint):
    (block,) = blocks(ROOT / "docs" / "hosting.md", "yaml")
    space = yaml.safe_load(block)
    (name, files), (model,) = space["preload_from_hub"][0].split(), space["models"]
    assert name == model and set(files.split(",")) == {CONFIG_FILE, WEIGHTS_FILE, CARD_FILE}
    hub.put(name, tiny_checkpoint)
    for file in files.split(","):  # what the Hub does when it builds a Space
        huggingface_hub.hf_hub_download(name, file)
    hub.faults.extend([(name, 503)] * 9)
    assert denoiser.Denoiser.from_pretrained(name).folder.joinpath(CARD_FILE).is_file()


def test_hosting_states_the_limits_of_the_settings():
    text, settings = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8"), Settings()
    for words in (
        f"| {settings.max_upload.replace('mb', ' MB')} |",
        f"| {settings.max_pixels / 1e6:g} megapixels;",
        f"above {settings.interactive_pixels / 1e6:g} megapixel ",
        f"| {settings.max_seconds:g} s,",
        f"| {settings.max_queued_calls} in all; {settings.max_session_calls} of one kind for a session, "
        f"{settings.max_address_calls} for a network address |",
        f"| {settings.max_request_bytes / 1e6:g} MB |",
        f"default {settings.max_weights_bytes / 1e6:g} |",
    ):
        assert words in text


def test_the_readme_stays_short_and_its_space_runs_what_is_tested():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    space = yaml.safe_load(text.split("---\n")[1])
    assert space["sdk_version"] == PINS["gradio"]
    assert f"Python :: {space['python_version']}" in " ".join(PROJECT["classifiers"])
    assert (ROOT / space["app_file"]).is_file()


def test_the_architecture_names_every_module_and_no_other():
    named = set(re.findall(r"`[\w/]*?(\w+\.py)`", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
    files = {room: {path.name for path in (ROOT / room).rglob("*.py")} for room in ("denoiser", "train", "tests")}
    modules = files["denoiser"] | files["train"]
    assert modules - {"__init__.py"} <= named <= modules | files["tests"] | {"app.py"}


def test_the_changelog_begins_with_this_version():
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heading[1] == denoiser.__version__
