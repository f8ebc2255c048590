"""Which photos count as noisy already, which checkpoint fits, which part is worked on, and the file in full size."""

import asyncio
import dataclasses
import io
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from denoiser import Denoiser, add_noise
from denoiser.demo import full_size as full_size_module
from denoiser.demo.compute_gate import ComputeGate
from denoiser.demo.denoise_layout import DenoiseLayout
from denoiser.demo.experiment_runner import ExperimentRunner
from denoiser.demo.full_size import FullSize, Progress
from denoiser.demo.model_pool import Loaded
from denoiser.demo.photo_advice import PhotoFacts, advise, describe_photo, has_color
from denoiser.demo.photo_controls import PhotoControls
from denoiser.demo.photo_parts import AREAS, locate, render_overview, take_area, to_integers
from denoiser.demo.result_files import ResultFiles
from denoiser.demo.settings import Settings
from denoiser.hub.facts import Facts
from denoiser.images.picture import read
from tests.conftest import PHOTO, ROOT, run_async

CLEAN = sorted(path for path in (ROOT / "examples").glob("*.jpg") if "noisy" not in path.stem)
NOISY = ROOT / "examples" / "harbour-noisy.jpg"


@pytest.fixture(scope="module")
def describe():
    return partial(describe_photo, denoiser=Denoiser.from_pretrained("photo", device="cpu"))


def noisy_version(path, kind, **parameters) -> np.ndarray:
    with Image.open(path) as image:
        clean = np.asarray(image.convert("RGB"), np.float32) / 255
    return np.rint(add_noise(clean, kind, 0, **parameters).clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.stem)
@pytest.mark.parametrize("quality", [None, 90, 50, 15])
def test_clean_photos_are_not_noisy_nor_does_jpeg_make_them_so(describe, path, quality):
    with Image.open(path) as image:
        file = io.BytesIO()
        if quality:
            image.save(file, "JPEG", quality=quality)
            image = Image.open(file)
        assert not describe(read(image)).noisy


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("kind", "parameters"), [("gaussian", {"sigma": 5}), ("camera", {"sigma": 3}), ("camera", {"sigma": 20})]
)
def test_noisy_photos_are_noisy(describe, path, kind, parameters):
    assert describe(read(noisy_version(path, kind, **parameters))).noisy


def test_the_noisy_example_is_offered_as_such_and_says_its_size_upright(describe, tmp_path):
    facts = describe(read(NOISY))
    assert facts.noisy and (facts.width, facts.height) == (576, 432)
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(NOISY) as image:
        image.save(tmp_path / "turned.jpg", exif=exif)
    facts = describe(read(tmp_path / "turned.jpg"))
    assert (facts.width, facts.height) == (432, 576)


def test_drawings_and_tiny_pictures_are_not_noisy(describe):
    drawing = Image.new("RGB", (500, 400), "white")
    for index in range(60):
        ImageDraw.Draw(drawing).text((index * 37 % 450, index * 53 % 380), f"word {index}", fill="black")
    assert not describe(read(drawing)).noisy
    for size in [(1, 1), (2, 300), (7, 7)]:
        assert not describe(read(Image.new("RGB", size, "gray"))).noisy


def test_gray_in_three_channels_has_no_color(photo):
    gray = Image.fromarray(photo).convert("L")
    file = io.BytesIO()
    gray.convert("RGB").save(file, "JPEG")
    assert not has_color(read(gray)) and not has_color(read(Image.open(file))) and has_color(read(photo))


GAUSSIAN = Facts("color-base", channels=3, sigma_range=(0, 55))
GRAY = Facts("gray-base", channels=1, sigma_range=(0, 55))
BLIND = Facts("photo", channels=3, sigma_range=(0, 50), blind=True)


@pytest.mark.parametrize(
    ("facts", "color", "noise", "sigma", "checkpoint", "level"),
    [
        (GAUSSIAN, True, "camera", 10, "photo", 0),
        (GAUSSIAN, True, "jpeg", 10, "photo", 0),
        (GAUSSIAN, True, None, 10, "photo", 0),
        (GRAY, True, "gaussian", 25, "color-base", 0),
        (GAUSSIAN, True, "gaussian", 70, "", 55),
        (GAUSSIAN, True, "gaussian", 25, None, None),
        (GRAY, False, "gaussian", 25, None, None),
        (BLIND, True, "camera", None, None, None),
        (BLIND, True, None, None, None, None),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_told_and_what_does(facts, color, noise, sigma, checkpoint, level):
    advice = advise(facts, color, noise, sigma)
    if checkpoint is None:
        assert advice is None
    else:
        assert (advice.checkpoint, advice.sigma) == (checkpoint, level) and facts.name in advice.text
        assert (checkpoint or f"{level:g}") in advice.label


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 400), st.integers(1, 400), st.integers(1, 5000))
def test_a_part_lies_in_the_picture_where_it_was_asked_for(x, y, height, width, limit):
    rows, columns = np.mgrid[:height, :width].astype(np.uint16)
    picture = read(np.dstack([rows, columns, rows]))
    part = take_area(picture, locate("part", f"{x:.4f} {y:.4f}"), limit)
    tops, lefts = (np.rint(part.pixels[..., index] * 65535).astype(int) for index in (0, 1))
    assert tops.size <= limit
    for shares, axis, side in ((tops, 0, height), (lefts, 1, width)):
        first, last = shares.min(), shares.max()
        assert last - first + 1 == shares.shape[axis]
        middle = (first + last + 1) / 2
        asked = (y, x)[axis] * side
        assert abs(middle - asked) <= 1.5 or first == 0 or last == side - 1


@pytest.mark.parametrize("part", ["", "x", "2 2", "nan nan", "0.5", "0.5 0.5; x", None])
def test_a_place_that_is_none_is_the_middle(part):
    assert locate("part", part) == "part@0.500,0.500"
    assert locate("all", part) == "all" and locate("shrunk", part) == "shrunk"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_overview_is_of_any_depth_and_its_frame_as_large_as_the_part(photo, dtype):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    html = render_overview(read((photo.astype(np.float64) * scale).astype(dtype)), 256 * 256 // 4, "hash")
    assert re.search(r'data-share="0\.5"', html) and html.count("data:image/jpeg;base64,") == 1


def test_a_step_back_brings_the_choices_of_a_large_photo_back_and_keeps_what_was_chosen(tmp_path):
    state = SimpleNamespace(settings=Settings(examples_folder=tmp_path), experiment_runner=None, results=None)
    with gr.Blocks():
        controls = PhotoControls(state, DenoiseLayout([], "color-base", [("", "color-base")]), None)
    facts, names = PhotoFacts(1500, 1000, noisy=True), dict(AREAS)

    def step(query, noisy_before):
        chosen = [one for one in controls.on_address_opened(query, None, noisy_before, facts) if isinstance(one, dict)]
        return [dict(one["choices"]) for one in chosen if "choices" in one]

    assert step("", True) == [names] and "Smaller" not in step("?noise=none", False)[0]
    assert step("?strength=0.5", False) == step("?noise=none&strength=0.5", True) == []


def test_floats_get_16_bits_for_the_page(photo):
    picture = to_integers(read(photo.astype(np.float32) / 255 * 1.5))
    assert picture.maximum == 65535 and picture.pixels.max() == 1 and np.asarray(picture).dtype == np.uint16


# -- the file in full size --------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(tiny_model):
    return Loaded(Denoiser(tiny_model), Facts("tiny"), "", 0.0)


@pytest.fixture
def large(photo, tmp_path):
    path = tmp_path / "large.png"
    Image.fromarray(np.tile(photo, (3, 4, 1))).save(path)
    return path


def full_size(tmp_path, **settings) -> FullSize:
    (tmp_path / "results").mkdir(exist_ok=True)
    runner = ExperimentRunner(dataclasses.replace(Settings(), interactive_pixels=250_000, **settings), ComputeGate())
    return FullSize(runner, ResultFiles(tmp_path / "results", 60), 4)


OPTIONS = {"noise": None, "parameters": {}, "seed": 0, "sigma": 25.0, "strength": 1.0}


def collect(iterator) -> list:
    async def run():
        return [told async for told in iterator]

    return run_async(run())


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG"])
def test_the_file_is_the_whole_photo_as_the_library_denoises_it(tmp_path, large, loaded, file_format):
    *sentences, path = collect(full_size(tmp_path).denoise(str(large), loaded, file_format, OPTIONS))
    assert sentences and all(isinstance(sentence, str) for sentence in sentences)
    with Image.open(path) as image:
        assert image.format == file_format and image.size == (1024, 768) and path.stem == "large-denoised"
        result = np.asarray(image).astype(int)
    expected = np.asarray(loaded.denoiser(large, 25)).astype(int)
    assert np.abs(result - expected).max() <= (0 if file_format != "JPEG" else 60)
    assert np.abs(result - expected).mean() < 2


def test_metadata_stay_and_floats_stay_floats_in_tiff(tmp_path, photo, loaded):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    Image.fromarray(photo).save(tmp_path / "photo.jpg", exif=exif, dpi=(300, 300))
    path = collect(full_size(tmp_path).denoise(str(tmp_path / "photo.jpg"), loaded, "JPEG", OPTIONS))[-1]
    with Image.open(path) as image:
        assert image.getexif()[0x010F] == "Maker" and round(image.info["dpi"][0]) == 300
    Image.fromarray(photo[..., 0].astype(np.float32) / 255).save(tmp_path / "float.tif")
    path = collect(full_size(tmp_path).denoise(str(tmp_path / "float.tif"), loaded, "TIFF", OPTIONS))[-1]
    with Image.open(path) as image:
        assert image.mode == "F"


def test_what_a_format_cannot_hold_is_a_sentence_for_a_visitor(tmp_path, photo, loaded):
    image = Image.fromarray(photo)
    image.putalpha(Image.linear_gradient("L"))
    image.save(tmp_path / "clear.png")
    with pytest.raises(gr.Error) as raised:
        collect(full_size(tmp_path).denoise(str(tmp_path / "clear.png"), loaded, "JPEG", OPTIONS))
    assert "choose PNG or TIFF" in raised.value.message


def test_who_closes_it_ends_the_computation_between_tiles(tmp_path, large, loaded, monkeypatch):
    monkeypatch.setattr(full_size_module, "TELL_SECONDS", 0.001)
    shares = []
    original = Progress.__call__

    def note(self, share):
        shares.append((share, self.cancelled))
        original(self, share)

    monkeypatch.setattr(Progress, "__call__", note)
    job = full_size(tmp_path)

    async def cancel():
        iterator = job.denoise(str(large), loaded, "PNG", OPTIONS)
        async for _ in iterator:
            if job._threads.borrowed_tokens:
                break
        await iterator.aclose()
        for _ in range(600):  # its thread ends at the next tile
            if job._threads.borrowed_tokens == 0:
                return True
            await asyncio.sleep(0.05)
        return False

    assert run_async(cancel())
    assert not list((tmp_path / "results").rglob("*.png"))
    assert not shares or shares[-1][1]  # the last look, if it came to one, found it cancelled


def test_a_file_that_has_other_settings_than_the_page_says_so(tmp_path, large, loaded, monkeypatch):
    monkeypatch.setattr(full_size_module, "TELL_SECONDS", 0.001)
    job = full_size(tmp_path)

    async def change():
        outdated = []
        async for told in job.denoise(str(large), loaded, "PNG", OPTIONS, "mine", "these"):
            outdated.append((job.is_outdated("mine"), "with the settings before" in str(told)))
            job.compare("another's", "others")
            job.compare("mine", "others" if len(outdated) == 1 else "these" if isinstance(told, Path) else "others")
        return outdated

    found = run_async(change())
    assert not found[0][0] and found[-1][0]
    assert all(is_outdated for is_outdated, said in found if said) and not job.is_outdated("mine")


def test_a_finished_file_stays_until_the_page_has_other_settings(tmp_path, photo, loaded):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    controls, mine = PhotoControls.__new__(PhotoControls), SimpleNamespace(session_hash="mine")
    controls.full_size = full_size(tmp_path)
    assert controls.on_settings_changed(mine, "others") == gr.skip()
    collect(controls.full_size.denoise(str(tmp_path / "photo.png"), loaded, "PNG", OPTIONS, "mine", "these"))
    assert controls.on_settings_changed(mine, "these") == gr.skip() and not controls.full_size.is_under_way("mine")
    assert controls.on_settings_changed(mine, "others")["visible"] is False


def test_who_cancels_gets_no_file_and_nothing_after_the_end(tmp_path, large, loaded):
    job = full_size(tmp_path)

    async def cancel():
        said = []
        async for told in job.denoise(str(large), loaded, "PNG", OPTIONS, "mine"):
            said.append(told)
            job.cancel("another's")
            job.cancel("mine")
        return said

    (sentence,) = run_async(cancel())
    assert isinstance(sentence, str) and not list((tmp_path / "results").rglob("*.png"))
    assert isinstance(collect(job.denoise(str(large), loaded, "PNG", OPTIONS, "mine"))[-1], Path)


def test_a_photo_that_takes_too_long_is_refused_with_a_sentence(tmp_path, large, loaded):
    slow = dataclasses.replace(loaded, seconds_per_megapixel=1000.0)
    with pytest.raises(gr.Error, match="This would take"):
        collect(full_size(tmp_path).denoise(str(large), slow, "PNG", OPTIONS))


def test_progress_says_how_long_it_takes():
    progress = Progress()
    assert "Waiting" in progress.describe()
    progress(0.0)
    assert "Reading" in progress.describe()
    progress(0.25)
    assert re.fullmatch(r"25% done, about \d+ s left", progress.describe())
    progress(1.0)
    assert "Writing" in progress.describe()
    progress.begun, progress.share = progress.begun - 300, 0.5
    assert re.fullmatch(r"50% done, about 5 min left", progress.describe())


def test_the_script_makes_the_noisy_example(tmp_path, monkeypatch):
    import runpy
    import sys

    target = tmp_path / "noisy.jpg"
    monkeypatch.setattr(sys, "argv", ["simulate_noise.py", str(ROOT / "examples" / "harbour.jpg"), "-o", str(target)])
    runpy.run_path(str(ROOT / "examples" / "simulate_noise.py"), run_name="__main__")
    with Image.open(target) as made, Image.open(NOISY) as bundled:
        assert made.size == bundled.size
        assert np.abs(np.asarray(made).astype(int) - np.asarray(bundled)).mean() < 0.5
    assert NOISY.stat().st_size < 200_000 and PHOTO.exists()
