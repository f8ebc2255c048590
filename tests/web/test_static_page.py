"""The page that computes in Chromium, by itself and within the demo: what the library does, and it sends nothing."""

import base64
import io
import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from denoiser import Denoiser
from denoiser.analysis.noise_level import estimate_sigma
from denoiser.analysis.weak_noise import blind_share
from denoiser.models import Unet, UnetConfig
from tests.analysis.test_noise_level import text_of_a_screen
from tests.conftest import ROOT, chromium
from tests.demo.visitor import Visitor, png

pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
builder = pytest.importorskip("web.build")
# A GPU in software: slow, and enough for a small picture.
FLAGS = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader"]
FLAGS += ["--enable-features=Vulkan", "--ignore-gpu-blocklist"]
DONE = "document.getElementById('status').textContent.startsWith('Done')"
RESULT = "document.getElementById('denoised').toDataURL()"


class Handler(SimpleHTTPRequestHandler):
    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *args):
        pass


# Once in a session: a worker may come back to this module after it has taken tests of others.
@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    torch.manual_seed(0)
    folder, sizes = tmp_path_factory.mktemp("checkpoints"), {"widths": (8,), "blocks": (1,)}
    Unet(UnetConfig(**sizes)).save_pretrained(folder / "tiny")
    Unet(UnetConfig(channels=1, blind=True, **sizes)).save_pretrained(folder / "blind")
    return folder


@pytest.fixture(scope="session")
def site(checkpoints, on_device):
    """The address of the page, built for two small checkpoints."""
    folder, kept = on_device, ROOT / ".cache" / f"onnxruntime-web-{builder.VERSION}"
    try:
        builder.fetch_runtime(kept)
    except RuntimeError as error:
        if not str(error).startswith("npm "):
            raise
        pytest.skip(str(error))  # it is missing, or there is no network
    (folder / "ort").symlink_to(kept)
    builder.build(folder, [str(checkpoints / "tiny"), str(checkpoints / "blind")])
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_checkpoints_of_runs_have_the_names_of_the_runs_and_no_two_the_same(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "fetch_runtime", lambda target: target.mkdir(parents=True))
    monkeypatch.setattr(builder, "export_onnx", lambda found, path: path.write_bytes(b"a graph"))
    runs = [tmp_path / name / "checkpoint" for name in ("first", "second", "again/first")]
    for run in runs:
        shutil.copytree(checkpoints / "tiny", run)
    builder.build(tmp_path / "site", [str(run) for run in runs[:2]])
    models = json.loads((tmp_path / "site" / "models" / "models.json").read_text())
    assert [(model["name"], model["file"]) for model in models] == [("first", "first.onnx"), ("second", "second.onnx")]
    with pytest.raises(RuntimeError, match="2 of the checkpoints are called first: rename"):
        builder.build(tmp_path / "site", [str(run) for run in runs])


@pytest.fixture(scope="module")
def browser():
    with chromium(FLAGS) as browser:
        yield browser


def new_page(browser):
    page = browser.new_page()
    page.set_default_timeout(180_000)  # no verdict depends on the machine's speed
    return page


@pytest.fixture(scope="module")
def page(browser, site):
    """The page for one test after another, which asks this site alone, for files alone, and meets no error."""
    page, problems, requests = new_page(browser), [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request))
    page.goto(f"{site}?runtime=wasm")
    page.wait_for_selector("body[data-ready]")
    yield page
    page.close()
    assert not problems
    asked = [one for one in requests if not one.url.startswith(("blob:", "data:"))]
    assert all(one.url.startswith(site) and one.method == "GET" and not one.post_data for one in asked)


def give(page, pixels, added=0, level=25, mode="manual", checkpoint="tiny"):
    """Choose a photo, with the controls where they are to be; what is computed before it is opened does not count."""
    controls = {"checkpoint": checkpoint, "added": added, "level": level, "mode": mode}
    page.evaluate(
        "controls => { for (const id in controls) document.getElementById(id).value = controls[id]; "
        "document.getElementById('status').textContent = 'Opening'; }",
        controls,
    )
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": png(pixels)})


def read(page, canvas="denoised"):
    data = page.evaluate(f"document.getElementById('{canvas}').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def clipped_photo(photo):
    """Noise cut off at black and at white, in more than one tile."""
    scene = np.concatenate([photo, photo[:, ::-1]], 1)[:150, :330] * 1.4 - 40
    return np.rint((scene + 25 * np.random.default_rng(0).standard_normal(scene.shape)).clip(0, 255)).astype(np.uint8)


@pytest.mark.parametrize(
    "checkpoint, level, gray", [("tiny", 25, False), ("tiny", 7, False), ("tiny", 25, True), ("blind", 25, False)]
)
def test_the_result_is_the_servers_within_one_level(page, checkpoints, photo, checkpoint, level, gray):
    noisy = clipped_photo(photo)
    noisy = noisy[..., :1].repeat(3, 2) if gray else noisy
    give(page, noisy, level=level, checkpoint=checkpoint)
    page.wait_for_function(DONE)
    assert page.evaluate("crossOriginIsolated") and "WebAssembly" in page.inner_text("#status")
    expected = Denoiser.from_pretrained(checkpoints / checkpoint, device="cpu", dtype="float32")(noisy, level)
    assert np.abs(read(page) - expected.astype(int)).max() <= 1
    assert np.abs(read(page) - noisy.astype(int)).mean() > 0.3


@pytest.mark.parametrize("size", [(40, 70), (150, 300), (3, 90)])
def test_what_a_blind_network_says_of_a_clean_photograph_counts_as_little_as_in_the_library(page, photo, size):
    share = """async ([data, height, width, strength, level]) => {
      const { blindShare } = await import("./estimate.js");
      const rgba = Uint8ClampedArray.from(atob(data), (character) => character.charCodeAt(0));
      return blindShare(rgba, height, width, level, (part) => {  // a network that makes everything darker
        const found = [], factor = strength / 255;
        for (let c = 0; c < 3; c++)
          for (let y = part.outerTop; y < part.outerBottom; y++)
            for (let x = part.outerLeft; x < part.outerRight; x++) found.push(factor * rgba[4 * (y * width + x) + c]);
        return found;
      });
    }"""
    pixels = np.concatenate([photo, photo[:, ::-1]], 1)[: size[0], : size[1]]
    rgba = np.dstack([pixels, np.full(size, 255, np.uint8)])
    found = []
    for strength, level in ((0.001, 0), (0.008, 0), (0.012, 0), (0.1, 0), (0.001, 2), (0.001, 9)):
        kept = np.float32(1 - strength)
        expected = blind_share(pixels / np.float32(255), level, lambda parts, _, kept=kept: kept * parts)
        found.append(page.evaluate(share, [base64.b64encode(rgba.tobytes()).decode(), *size, strength, level]))
        assert found[-1] == pytest.approx(expected, abs=2e-3)
    assert found[0] < 0.01 and found[-1] > 0.99 and 0.05 < found[-2] < 0.5
    if size[0] >= 16:
        assert found[0] < found[1] < found[2] < found[3] and found[3] > 0.99


@pytest.mark.parametrize("level", [3, 25])
def test_a_dim_picture_is_made_brighter_as_in_the_library(page, checkpoints, photo, level):
    dim = np.rint(photo[:90, :120] * 0.2 + level * np.random.default_rng(0).standard_normal((90, 120, 3)))
    dim = dim.clip(0, 60).astype(np.uint8)
    give(page, dim, level=level, checkpoint="tiny")
    page.wait_for_function(DONE)
    expected = Denoiser.from_pretrained(checkpoints / "tiny", device="cpu", dtype="float32")(dim, level)
    assert np.abs(read(page) - expected.astype(int)).max() <= 1


def test_the_level_is_estimated_as_the_library_does(page, checkpoints, photo):
    estimate = """async ([data, height, width]) => {
      const { estimateSigma } = await import("./estimate.js");
      const tables = new Float32Array(await (await fetch("tables.bin")).arrayBuffer());
      const rgba = Uint8ClampedArray.from(atob(data), (character) => character.charCodeAt(0));
      return estimateSigma(rgba, height, width, tables.slice(-501));
    }"""
    random, scene = np.random.default_rng(0), photo[:110, :150].astype(float)
    weak, strong = (scene + sigma * random.standard_normal(scene.shape) for sigma in (4, 30))
    dark = 0.05 * scene + 20 * random.standard_normal(scene.shape)  # cut off nearly everywhere
    text = 255 * (random.random((110, 150, 1)) > 0.02).repeat(3, 2)
    texture = (
        gaussian_filter(random.standard_normal((110, 150, 1)), (0.8, 0.8, 0)).repeat(3, 2) * np.arange(150)[:, None]
    )
    fine = scene[..., :1] - gaussian_filter(scene[..., :1], (1, 1, 0))
    uneven = (random.standard_normal((110, 150, 1)) + 0.2 * fine).repeat(3, 2)
    dither = 255 * (scene > 255 * random.random(scene.shape)) + 9 * random.standard_normal(scene.shape)
    framed, captioned = strong.clip(0, 255), weak.clip(0, 255)
    framed[:, :20] = framed[:, -20:] = (114, 114, 120)
    captioned[80:] = 30
    gray = (120 + texture, 110 + texture / 20, 120 + uneven, strong[..., :1].repeat(3, 2), text)
    sheet = random.integers(0, 256, (7, 3))[random.integers(0, 7, (110, 150))]
    tones = 30 + 28 * np.digitize(gaussian_filter(random.standard_normal((110, 150, 1)), (2, 2, 0)), [-0.1, 0, 0.1])
    gray += tones.repeat(3, 2), tones.repeat(3, 2) + 4 * random.standard_normal((110, 150, 1)), text_of_a_screen()
    rows, columns = np.ogrid[:110, :150]
    stripes, noise = 60 * np.cos(2 * columns + rows)[..., None], random.standard_normal((110, 150, 3))
    hatching = [120 + stripes * (1, 0.8, 0.5) + sigma * noise for sigma in (0, 3, 9)]
    staves = 255.0 * ((rows % 50 > 24) | (rows % 6 > 0) | (columns < 9))[..., None]
    gray += (staves + 12 * noise)[..., :1].repeat(3, 2), (staves + 3 * noise)[..., :1].repeat(3, 2)
    for one in (weak, strong, dark, dither, framed, captioned, weak[:3], sheet, *hatching, hatching[0][:70], *gray):
        pixels = np.rint(one.clip(0, 255)).astype(np.uint8)
        rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
        found = page.evaluate(estimate, [base64.b64encode(rgba.tobytes()).decode(), *pixels.shape[:2]])
        assert found == pytest.approx(estimate_sigma(pixels), rel=0.02, abs=0.01)
    give(page, pixels := np.rint(strong.clip(0, 255)).astype(np.uint8), level=3, mode="estimate")
    page.wait_for_function(DONE)
    level = estimate_sigma(pixels)
    assert float(page.inner_text("#level-value")) == pytest.approx(level, rel=0.02)
    expected = Denoiser.from_pretrained(checkpoints / "tiny", device="cpu", dtype="float32")(pixels, level)
    assert np.abs(read(page) - expected.astype(int)).max() <= 1


def test_a_gpu_computes_the_same(browser, site, checkpoints, photo):
    page = new_page(browser)
    page.goto(site)
    page.wait_for_selector("body[data-ready]")
    if not page.evaluate("navigator.gpu?.requestAdapter().then((adapter) => !!adapter)"):
        pytest.skip("this Chromium has no WebGPU")
    noisy = clipped_photo(photo)[:40, :60]
    give(page, noisy)
    page.wait_for_function(DONE)
    assert "WebGPU" in page.inner_text("#status")
    expected = Denoiser.from_pretrained(checkpoints / "tiny", device="cpu", dtype="float32")(noisy, 25)
    assert np.abs(read(page) - expected.astype(int)).max() <= 1
    page.close()


def test_results_follow_a_slider_and_the_last_one_stays(page, checkpoints, photo):
    give(page, photo[:100, :140], added=20, mode="known")
    page.wait_for_function(DONE)
    before = read(page)
    page.focus("#added")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    # What is done may be of a move before, and the last one begin with the next frame.
    settled = f"window.steady = {DONE} ? (window.steady ?? 0) + 1 : 0"
    page.wait_for_function(f"added.value === '26' && level.value === '26' && ({settled}) > 3")
    noisy = read(page, "noisy").astype(np.uint8)
    expected = Denoiser.from_pretrained(checkpoints / "tiny", device="cpu", dtype="float32")(noisy, 26)
    assert np.abs(read(page) - expected.astype(int)).max() <= 1 and not np.array_equal(read(page), before)
    assert "dB noisy" in page.inner_text("#status") and page.is_visible("#save")
    added = (noisy - photo[:100, :140].astype(float)).std()
    assert 20 < added < 27  # of 26, some of it cut off
    page.focus("#level")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#mode") == "manual" and page.input_value("#added") == "26"
    page.select_option("#checkpoint", "blind")
    assert not page.is_visible("#level") and not page.is_visible("#mode")
    page.select_option("#checkpoint", "tiny")
    page.wait_for_function(f"level.checkVisibility() && !document.getElementById('save').hidden && {DONE}")


def test_results_appear_while_a_slider_keeps_moving(page, photo):
    give(page, np.concatenate([photo, photo], 1), added=20, level=20)
    page.wait_for_function(DONE)
    page.evaluate("""() => {
      let value = 20;
      window.moving = setInterval(() => {
        level.value = value++ % 40;
        level.dispatchEvent(new Event("input", { bubbles: true }));
      }, 2);
    }""")
    before = page.evaluate(RESULT)
    page.wait_for_function(f"{RESULT} !== '{before}'")
    page.evaluate("clearInterval(moving)")
    page.wait_for_function(DONE)


def test_cancel_stops_after_a_tile(page):
    page.evaluate("""() => {  // when the first tile is done, before the next
      const cancel = document.getElementById("cancel"), bar = document.getElementById("progress");
      const watcher = new MutationObserver(() => {
        if (bar.value === 0 || cancel.disabled) return;
        watcher.disconnect();
        cancel.click();
      });
      watcher.observe(bar, { attributes: true });
    }""")
    clean = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    give(page, clean, added=25)
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Stopped')")
    assert page.is_disabled("#cancel") and not page.is_visible("#save")
    # Where nothing was computed the noisy picture is seen, and the clean one nowhere.
    shown, noisy = read(page), read(page, "noisy")
    assert (shown == noisy).all(2).mean() > 0.2 and (shown == clean).all(2).mean() < 0.1
    before = page.evaluate(RESULT)
    give(page, np.full((20, 30, 3), 99, np.uint8))  # waits for what was stopped
    page.wait_for_function(DONE)
    assert "30 x 20" in page.inner_text("#status") and page.evaluate(RESULT) != before


def test_of_photos_the_last_chosen_counts_and_one_that_is_none_ends_what_is_computed(page):
    page.evaluate("""() => {  // the first of them is decoded late
      const real = window.createImageBitmap, delays = [1000];
      window.createImageBitmap = async (file) => {
        await new Promise((resume) => setTimeout(resume, delays.pop() ?? 0));
        return real(file).finally(() => { window.decoded = (window.decoded ?? 0) + 1; });
      };
    }""")
    give(page, np.full((50, 60, 3), 99, np.uint8))
    give(page, np.full((20, 30, 3), 99, np.uint8))
    page.wait_for_function(f"window.decoded === 2 && {DONE}")
    assert "30 x 20" in page.inner_text("#status") and read(page).shape == (20, 30, 3)
    give(page, np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8))
    page.wait_for_function("document.getElementById('progress').value > 0")
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector("#status.problem")
    before = page.evaluate(RESULT)
    page.wait_for_timeout(1000)
    assert "no picture" in page.inner_text("#status") and page.evaluate(RESULT) == before
    assert page.is_disabled("#cancel") and not page.is_visible("#save")
    page.reload()
    page.wait_for_selector("body[data-ready]")


def test_a_checkpoint_is_fetched_once(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2].partition("?")[0]))
    for _ in range(2):
        asked.clear()
        page.reload()
        page.wait_for_selector("body[data-ready]")
        give(page, np.full((20, 30, 3), 99, np.uint8))
        page.wait_for_function(DONE)
    assert "models.json" in asked and "worker.js" in asked and "tiny.onnx" not in asked


def test_the_page_hands_its_photo_over_and_nothing_is_sent(browser, site, demo, checkpoints, photo):
    visitor = Visitor(browser, demo.url)
    requests, page = [], visitor.page
    page.on("request", lambda request: requests.append(request))
    # This browser's GPU is in software, and slow.
    wasm = {"location": f"{demo.url}/on-device/?runtime=wasm"}
    page.route("**/on-device/", lambda route: route.fulfill(status=302, headers=wasm))
    page.get_by_role("tab", name="Run on this device").click()
    frame = page.wait_for_selector("#on-device iframe").content_frame()
    frame.wait_for_selector("body[data-ready]")  # before, it may be empty
    denoiser = Denoiser.from_pretrained(checkpoints / "tiny", device="cpu", dtype="float32")

    def done(level):
        frame.wait_for_function(f"document.getElementById('level-value').textContent === '{level}' && {DONE}")
        noisy = read(frame, "noisy").astype(np.uint8)
        assert np.abs(read(frame) - denoiser(noisy, level).astype(int)).max() <= 1
        return noisy

    shown = done(25)  # the page's photo and the noise level of its slider
    assert frame.evaluate("crossOriginIsolated")
    assert 20 < (shown - visitor.picture("clean").astype(float)).std() < 26
    frame.focus("#added")
    frame.press("#added", "ArrowRight")
    done(26)
    give(frame, photo[:100, :140], level=9)
    frame.wait_for_function(DONE)
    assert read(frame, "noisy").shape == (100, 140, 3)
    # A photo chosen there has 40 kB: no request was so large, and none but the page's own files were asked for.
    assert not [one.url for one in requests if "upload" in one.url or len(one.post_data_buffer or b"") > 10_000]
    assert [one for one in requests if "on-device/models" in one.url] and not visitor.elsewhere
    # Back in the page, another level is chosen: the frame follows, and keeps the photo that was chosen there.
    page.get_by_role("tab", name="Denoise", exact=True).click()
    visitor.after(lambda: visitor.slide("gaussian-sigma", 0.4))
    page.get_by_role("tab", name="Run on this device").click()
    frame.wait_for_function(f"document.getElementById('added').value !== '0' && {DONE}")
    assert read(frame, "noisy").shape == (100, 140, 3)
    # Noise that the frame does not make: it gets the noisy picture.
    page.get_by_role("tab", name="Denoise", exact=True).click()
    page.click("#noise input")
    visitor.after(lambda: page.get_by_role("option", name="Camera sensor").click())
    page.get_by_role("tab", name="Run on this device").click()
    frame.wait_for_function(f"added.value === '0' && document.getElementById('noisy').width !== 140 && {DONE}")
    assert np.array_equal(read(frame, "noisy"), visitor.picture("noisy")) and frame.input_value("#mode") == "estimate"
    assert not visitor.problems
    page.context.close()


def test_what_the_network_loses_is_fetched_again(browser, site):
    page, lost = new_page(browser), []
    losses = [
        lambda route: (lost.append(route), route.abort()),
        lambda route: (lost.append(route), route.fulfill(status=503, body="busy")),
    ]
    page.goto(f"{site}?runtime=wasm")
    page.wait_for_selector("body[data-ready]")
    for part in ("worker.js", "estimate.js", "*.wasm", "ort.wasm.min.mjs", "tables.bin", "tiny.onnx*"):
        page.evaluate("caches.delete('denoiser-models')")
        for lose in losses:
            lost.clear()
            page.route(f"**/{part}", lose)
            give(page, np.zeros((8, 8, 3), np.uint8))
            page.wait_for_function("document.getElementById('status').textContent.includes('could not be fetched')")
            said = page.inner_text("#status.problem")
            assert "Check the connection" in said or "Try again later" in said
            assert lost
            page.unroute(f"**/{part}")
        give(page, np.full((8, 8, 3), 99, np.uint8))
        page.wait_for_function(DONE)
        page.reload()
        page.wait_for_selector("body[data-ready]")
    page.close()


def test_a_download_that_stands_still_is_given_up_by_cancel_and_by_another_checkpoint(browser, site):
    page, held = new_page(browser), []
    page.goto(f"{site}?runtime=wasm")
    page.wait_for_selector("body[data-ready]")
    page.route("**/tiny.onnx*", lambda route: held.append(route))
    picture = np.full((8, 8, 3), 99, np.uint8)
    give(page, picture)
    while not held:
        page.wait_for_timeout(50)
    page.focus("#cancel")
    page.keyboard.press("Enter")
    assert page.inner_text("#status").startswith("Stopped") and page.evaluate("document.activeElement.id") == "file"
    page.select_option("#checkpoint", "blind")
    page.wait_for_function(DONE)
    page.select_option("#checkpoint", "tiny")
    while len(held) < 2:
        page.wait_for_timeout(50)
    page.select_option("#checkpoint", "blind")
    page.wait_for_function(DONE)
    page.unroute("**/tiny.onnx*")
    page.select_option("#checkpoint", "tiny")
    page.wait_for_function(DONE)
    page.close()


def test_what_is_saved_is_what_is_seen(page, photo):
    page.evaluate("""() => {
      const real = HTMLCanvasElement.prototype.toBlob;
      HTMLCanvasElement.prototype.toBlob = function (done) {  // encoded slowly, until it is given back
        real.call(this, (blob) => { window.encoded = () => done(blob); });
        HTMLCanvasElement.prototype.toBlob = real;
      };
    }""")
    give(page, photo[:40, :60])
    page.wait_for_function(f"window.encoded && {DONE}")
    assert page.evaluate("""() => {
      level.value = 50;
      level.dispatchEvent(new Event("input", { bubbles: true }));
      encoded();
      return save.hidden;
    }""")
    page.wait_for_function(f"!save.hidden && {DONE}")
    # A file that is none, or too wide for a canvas, leaves the result, and its link.
    before = page.evaluate(RESULT)
    wide = png(np.zeros((1, 70_000), np.uint8))
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": wide})
    page.wait_for_selector("#status.problem")
    assert "70000 x 1 pixels" in page.inner_text("#status")
    page.evaluate("document.getElementById('status').className = ''")
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector("#status.problem")
    assert page.evaluate(RESULT) == before and page.is_visible("#save")


def test_what_cannot_be_done_is_said(browser, site):
    page = new_page(browser)
    page.add_init_script("delete window.WebAssembly")
    page.goto(site)
    assert "lacks WebAssembly" in page.inner_text("#status")
    page.close()

    page = new_page(browser)
    page.route("**/models.json", lambda route: route.fulfill(status=404, body="no such file"))
    page.goto(site)
    page.wait_for_selector("#status.problem")
    assert "python web/build.py" in page.inner_text("#status")
    page.close()

    page = new_page(browser)
    page.route("**/ort.wasm.min.mjs", lambda route: route.fulfill(status=404, body="no such file"))
    page.goto(f"{site}?runtime=wasm")
    page.wait_for_selector("body[data-ready]")
    give(page, np.zeros((8, 8, 3), np.uint8))
    page.wait_for_selector("#status.problem")
    assert "The runtime is not here" in page.inner_text("#status")
    page.close()

    page = new_page(browser)
    page.route("**/models.json", lambda route: route.abort())
    page.goto(f"{site}?runtime=wasm")
    page.wait_for_selector("#status.problem")
    assert "Check the connection" in page.inner_text("#status")
    page.unroute("**/models.json")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    give(page, np.full((8, 8, 3), 99, np.uint8), mode="estimate")
    page.wait_for_function(DONE)
    assert "No noise was found" in page.inner_text("#status")
    page.close()

    page = new_page(browser)
    page.route("**/tiny.onnx*", lambda route: route.fulfill(body=b"x" * 60_000))
    page.goto(f"{site}?runtime=wasm")
    page.wait_for_selector("body[data-ready]")
    give(page, np.zeros((8, 8, 3), np.uint8))
    page.wait_for_selector("#status.problem")
    assert "arrived damaged" in page.inner_text("#status")
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_function("document.getElementById('status').textContent.includes('no picture')")
    page.close()
