"""Real photographs in the page: noisy already, large, of formats that browsers do not show; advice; the address."""

import functools
import io
import sys

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from denoiser import NOISES, add_noise
from denoiser.demo.compute_gate import ComputeGate
from denoiser.demo.experiment_runner import ExperimentRunner
from denoiser.demo.settings import Settings
from tests.conftest import ROOT

from .visitor import png

HEIC = ROOT / "tests" / "images" / "data" / "gradient_8.heic"


@pytest.fixture(scope="module")
def large(photo) -> np.ndarray:
    """A photo of 0.19 megapixels with camera noise, uint8: the tests' demo shows 0.066 at most."""
    clean = np.tile(photo, (2, 2, 1))[:384, :483].astype(np.float32) / 255
    return np.rint(add_noise(clean, "camera", 0, sigma=20).clip(0, 1) * 255).astype(np.uint8)


def tiff(array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "TIFF")
    return file.getvalue()


def test_a_noisy_photo_is_offered_to_be_denoised_as_it_is_a_clean_one_is_not_and_nothing_stays_of_the_photo_before(
    visitor, large, photo
):
    page = visitor.page
    visitor.after(lambda: visitor.upload("clean.png", png(photo)))
    visitor.settle()
    for element in ("#offer", "#advice", "#notice", "#area", "#overview .overview-part"):
        assert not page.is_visible(element)
    visitor.after(lambda: visitor.upload("large.png", png(large)))
    page.locator("#offer").get_by_text("looks noisy already").wait_for()
    assert not page.is_checked("#noisy-already input")  # offered, not forced
    visitor.after(lambda: page.click("#offer-button"))
    visitor.hidden("#offer")
    assert page.is_checked("#noisy-already input")
    assert "checkpoint photo" in visitor.figures() and "288 × 229" in visitor.figures()
    page.wait_for_selector(".overview-part")
    visitor.hidden("#difference-controls")
    visitor.after(lambda: visitor.upload("small.tif", tiff(photo[:100, :200])))
    visitor.hidden(".overview-part", "#notice", "#area")
    # Our small picture in the place of what the browser cannot show is of this photo, not of the one before.
    page.wait_for_function(
        "() => { const shown = document.querySelector('#photo img'); "
        "return shown.naturalWidth && shown.naturalWidth === 2 * shown.naturalHeight; }"
    )
    visitor.upload("bad.png", b"no picture at all")
    page.get_by_text("is not a picture").wait_for()
    page.wait_for_function("() => getComputedStyle(document.querySelector('#photo img')).visibility === 'hidden'")
    visitor.after(lambda: visitor.upload("good.png", png(photo)))
    page.wait_for_function("() => getComputedStyle(document.querySelector('#photo img')).visibility === 'visible'")


def test_a_large_noisy_photo_is_seen_in_part_and_its_file_has_the_full_size(visitor, large, tmp_path):
    page = visitor.page
    visitor.after(lambda: visitor.upload("large.tif", tiff(large)))
    page.wait_for_selector("#offer")
    visitor.says("#notice", "483 × 384")
    # The browser cannot show a TIFF: our own small picture stands in its place.
    page.wait_for_function("() => document.querySelector('#photo img')?.naturalWidth > 0")
    visitor.after(lambda: page.click("#offer-button"))
    assert page.get_by_label("Smaller").count() == 0 and "288 × 229" in visitor.figures()
    middle = visitor.picture("noisy")
    box = page.locator(".overview-photo").bounding_box()
    visitor.until_result(lambda: page.mouse.click(box["x"] + 4, box["y"] + 4))
    assert np.array_equal(visitor.picture("noisy"), large[:229, :288]) and not np.array_equal(middle, large[:229, :288])
    visitor.until_result(lambda: (page.focus(".overview-part"), page.keyboard.press("ArrowRight")))
    part, left = visitor.picture("noisy"), round(288 / 4)
    found = [x for x in range(left - 10, left + 11) if np.array_equal(part[0], large[0, x : x + 288])]
    assert len(found) == 1 and found[0] % 8 == 0  # or the network's grid would lie otherwise than in the whole photo
    visitor.hidden("#download")  # never a part unasked
    page.click("#file-format input")
    page.get_by_role("option", name="TIFF").click()
    page.get_by_text("Denoise the full size (483 × 384), TIFF").wait_for()
    with page.expect_download() as download:
        page.click("#full-size")
    assert download.value.suggested_filename == "large-denoised.tif"
    with Image.open(download.value.path()) as image:
        assert image.size == (483, 384)
        whole = np.asarray(image).astype(int)
    shown = visitor.picture("denoised").astype(int)
    inner = slice(0, 130)  # away from the edges of the part that are none of the photo
    assert np.abs(whole[inner, found[0] + 100 : found[0] + 188] - shown[inner, 100:188]).max() <= 2


def test_a_file_under_way_keeps_nobody_waiting_and_ends_by_cancel_or_with_its_photo_and_a_small_one_can_be_had_as_jpeg(
    demo, open_page, photo
):
    visitor, other = open_page(query="?checkpoint=color-small"), open_page()
    visitor.until("checkpoint color-small")
    page, two_tiles = visitor.page, np.tile(photo, (4, 4, 1))[:912]
    assert page.is_visible("#download") and not page.is_visible("#full-size")
    visitor.after(lambda: visitor.upload("mine.tif", tiff(two_tiles)))
    page.click("#file-format input")
    page.get_by_role("option", name="TIFF").click()
    demo.hold.touch()  # it does not end by itself
    try:
        page.click("#full-size")
        page.get_by_text("done, about").wait_for()
        for seen in (other, visitor):  # in between
            seen.after(functools.partial(seen.page.click, "#reroll"))
        assert page.get_by_text("done, about").is_visible()
        page.get_by_text("left, with the settings before").wait_for()
        page.click("#cancel")
        visitor.hidden("#job")
    finally:
        demo.hold.unlink()
    for seen in (visitor, other):  # answered after the tile under way, the last of the file
        seen.after(functools.partial(seen.page.click, "#reroll"))
    visitor.settle()
    assert page.is_enabled("#full-size") and not page.is_visible("#file") and not page.is_visible("#job")
    demo.hold.touch()
    try:
        page.click("#full-size")
        page.get_by_text("done, about").wait_for()
        page.locator("#photo button[aria-label='Remove Image']").first.click()
        visitor.hidden("#job")
    finally:
        demo.hold.unlink()
    transparent = np.dstack([photo, np.full(photo.shape[:2], 128, np.uint8)])
    visitor.after(lambda: visitor.upload("after.png", png(transparent)))
    assert not page.is_visible("#file") and not list(demo.log.parent.rglob("mine-denoised.tif"))
    page.click("#file-format input")
    page.get_by_role("option", name="JPEG").click()
    page.locator("#full-size:disabled", has_text="JPEG holds neither transparency").wait_for()
    visitor.after(lambda: visitor.upload("good.png", png(photo)))
    page.locator("#full-size:enabled", has_text="Denoise the full size (256 × 256), JPEG").wait_for()
    with page.expect_download() as download:
        page.click("#full-size")
    with Image.open(download.value.path()) as image:
        assert image.format == "JPEG" and image.size == (256, 256)
    visitor.after(lambda: page.get_by_label("What is missing").check())  # another view is no other file
    visitor.settle()
    assert page.is_visible("#file")
    visitor.after(lambda: page.click("#reroll"))
    visitor.hidden("#file")


def test_a_network_of_gray_a_level_beyond_the_range_and_noise_that_does_not_fit_are_said_and_buttons_mend_it(
    visitor, photo
):
    page, hidden = visitor.page, "#camera-sigma input[type=number]"
    page.click("#checkpoint input")
    visitor.after(lambda: page.get_by_role("option", name="gray-base").click())
    visitor.says("#advice", "is for gray pictures")
    visitor.after(lambda: visitor.upload("gray.png", png(photo[..., 1])))
    visitor.hidden("#advice")
    visitor.after(lambda: visitor.upload("color.png", png(photo)))
    page.click("#advice-button")
    visitor.until("checkpoint color-base")
    visitor.hidden("#advice")
    visitor.after(lambda: visitor.slide("gaussian-sigma", 0.9))
    visitor.says("#advice", "up to 55")
    visitor.after(lambda: page.click("#level-button"))
    assert page.input_value("#gaussian-sigma input[type=number]") == "55"
    page.click("#noise input")
    visitor.after(lambda: page.get_by_role("option", name="Camera photograph").click())
    assert page.input_value(hidden) == f"{NOISES['camera'].parameters[0].default:g}"  # others' levels are not raised
    visitor.says("#advice", "is not Gaussian")
    number = visitor.result()["number"]
    page.click("#advice-button")
    visitor.until("checkpoint photo")
    visitor.hidden("#advice")
    page.wait_for_timeout(500)
    visitor.settle()
    assert visitor.result()["number"] == number + 1  # none for the noise level, which stays


def test_heic_avif_and_the_first_of_several_frames_are_read(shared_visitor, photo):
    pytest.importorskip("pi_heif", reason="HEIC needs the extra: pip install -e '.[formats]'")
    visitor, file = shared_visitor, io.BytesIO()
    visitor.after(lambda: visitor.upload("a.heic", HEIC.read_bytes()))
    with Image.open(io.BytesIO(png(visitor.picture("clean")))) as clean:
        assert f"{clean.width} × {clean.height}" in visitor.figures()
    visitor.hidden("#notice")
    Image.fromarray(photo[:200, :240]).save(file, "AVIF")
    visitor.after(lambda: visitor.upload("a.avif", file.getvalue()))
    assert "240 × 200" in visitor.figures()
    first, second, file = Image.fromarray(photo[:96, :128]), Image.fromarray(photo[100:196, :128]), io.BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=[second])
    visitor.after(lambda: visitor.upload("pages.tif", file.getvalue()))
    visitor.says("#notice", "2 frames or pages")
    assert np.array_equal(visitor.picture("clean"), photo[:96, :128])


def test_what_is_read_by_a_library_that_is_missing_is_said_to_a_visitor(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    (tmp_path / "a.heic").write_bytes(HEIC.read_bytes())
    with pytest.raises(gr.Error) as raised:
        ExperimentRunner(Settings(), ComputeGate()).inspect(str(tmp_path / "a.heic"))
    assert "Save the photo as JPEG or PNG" in raised.value.message and "pip" not in raised.value.message


def test_floating_point_and_turned_photos_are_read(shared_visitor, photo):
    visitor = shared_visitor
    visitor.after(lambda: visitor.upload("float.tif", tiff(photo[..., 0].astype(np.float32) / 255)))
    assert "256 × 256" in visitor.figures()
    for name, possible in (("JPEG", False), ("TIFF", True)):  # said before anything is computed
        visitor.page.click("#file-format input")
        visitor.page.get_by_role("option", name=name).click()
        label = "Denoise the full size (256 × 256), TIFF" if possible else "JPEG holds neither transparency nor more"
        visitor.page.locator("#full-size", has_text=label).wait_for()
        assert visitor.page.is_enabled("#full-size") is possible
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.tile(photo, (1, 2, 1))).save(file, "JPEG", exif=exif)
    visitor.after(lambda: visitor.upload("turned.jpg", file.getvalue()))
    visitor.says("#notice", "256 × 512")
    visitor.after(lambda: visitor.upload("small.png", png(photo)))
    visitor.hidden("#notice")  # nothing stays of the photo before


# -- the address ------------------------------------------------------------------------------------------------------


def test_settings_live_in_the_address_and_come_back(open_page, visitor):
    page = visitor.page
    visitor.after(lambda: visitor.slide("gaussian-sigma", 0.4))
    page.wait_for_url("**/?sigma=*")
    page.click("#noise input")
    visitor.after(lambda: page.get_by_role("option", name="Poisson (photons)").click())
    page.wait_for_url("**/?noise=poisson*")
    visitor.settle()
    figures, url = visitor.figures(), page.url
    page.go_back()
    page.wait_for_selector("#gaussian-sigma")
    page.wait_for_url("**/?sigma=*")
    page.go_forward()
    page.wait_for_selector("#poisson-peak")
    assert page.url == url
    other = open_page(query=url.rpartition("/")[2])  # shared, or reloaded
    other.page.wait_for_selector("#poisson-peak")
    other.settle()
    before_time = [line for line in figures.splitlines() if " s" not in line]
    assert [line for line in other.figures().splitlines() if " s" not in line] == before_time
    page.go_back()
    page.wait_for_url("**/?sigma=*")
    page.go_back()  # to where the visit began
    page.wait_for_function("() => document.querySelector('#gaussian-sigma input')?.value === '25'")
    assert not page.evaluate("location.search")


def test_an_example_is_in_the_address_and_a_photo_of_ones_own_is_asked_for_again(visitor, photo):
    page = visitor.page
    visitor.after(lambda: page.locator("#examples .gallery-item").nth(1).click())
    page.wait_for_url("**/?photo=*")
    shown = visitor.picture("clean")
    page.reload()
    while not np.array_equal(visitor.picture("clean"), shown):  # the page begins with the default
        page.wait_for_timeout(100)
    visitor.settle()
    assert np.array_equal(visitor.picture("clean"), shown)
    visitor.after(lambda: page.go_back())
    visitor.settle()
    assert not np.array_equal(visitor.picture("clean"), shown)
    visitor.after(lambda: visitor.upload("mine.png", png(photo)))
    page.wait_for_url("**/?photo=own")
    visitor.after(lambda: visitor.slide("gaussian-sigma", 0.4))
    page.wait_for_url("**/?sigma=*&photo=own")
    visitor.after(lambda: page.go_back())  # the photo is still there
    page.wait_for_function("() => document.querySelector('#gaussian-sigma input')?.value === '25'")
    assert np.array_equal(visitor.picture("clean"), photo)
    page.reload()
    visitor.says("#figures", "Drop a photo first")


def test_an_address_sets_every_control(open_page):
    query = (
        "?noise=camera&sigma=15&quality=60&seed=7&strength=0.5&sigma_mode=manual&sigma_given=30&checkpoint=color-small"
    )
    visitor = open_page(query=query)
    visitor.until("checkpoint color-small")
    visitor.until("30.0")
    values = {"camera-sigma": "15", "camera-quality": "60", "strength": "0.5", "sigma": "30"}
    for element, value in values.items():
        assert visitor.page.input_value(f"#{element} input[type=number]") == value
    assert visitor.page.input_value("#seed input") == "7"


def test_an_address_with_a_noisy_photo_goes_to_the_checkpoint_for_it(open_page):
    visitor = open_page(query="?noise=none")
    visitor.until("checkpoint photo")
    visitor.hidden("#noise")
    assert visitor.page.is_checked("#noisy-already input")


def test_of_a_photo_that_is_noisy_already_no_level_is_known(open_page):
    visitor = open_page(query="?noise=none&checkpoint=color-base")
    modes = visitor.page.locator("#sigma-mode label")
    visitor.page.wait_for_function("!document.querySelector('#sigma-mode label').checkVisibility()")
    assert [mode.is_visible() for mode in modes.all()] == [False, True, True]
    visitor.after(lambda: visitor.page.uncheck("#noisy-already input"))
    assert all(mode.is_visible() for mode in modes.all())
    assert not visitor.page.locator(".toast-body").count()


def test_an_address_that_means_nothing_does_no_harm(open_page):
    hostile = "%3Cimg%20src=x%20onerror=document.title='owned'%3E"
    query = f"?noise={hostile}&sigma=%3Cscript%3E&seed=-1&strength=7&checkpoint={hostile}&{'x=1&' * 400}"
    visitor = open_page(query=query)
    visitor.until("checkpoint color-base")
    assert visitor.page.title() == "Denoising autoencoder" and visitor.psnr()[1] > 20
