"""How live the page is: new pictures a second while the noise slider moves, and the wait after it is released.

    python -m benchmarks.slider [CHECKPOINT ...]

Starts the demo with each checkpoint (color-small and color-base by default), opens it in headless Chromium beside it,
drags the noise slider over the first example (512 x 512) and reads off the viewer when pictures appear, loaded and
drawn, and off the browser's list of requests where the time between release and final pictures goes. Then the server's
parts of one picture are timed alone, in this process. A visitor's network and screen come on top.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import torch
from playwright.sync_api import Page, sync_playwright

from denoiser import Denoiser, add_noise, experiment
from denoiser.images.codecs import save_image
from denoiser.images.picture import read

ROOT = Path(__file__).parent.parent
PHOTO = ROOT / "examples" / "temple.jpg"  # the page starts with it
CHECKPOINTS = ("color-small", "color-base")
DRAGS, DRAG_SECONDS, STEP_SECONDS = 8, 2.5, 0.02
START_SECONDS, TIMEOUT_SECONDS = 120, 60  # for the demo to start; for whatever the browser waits for
# Notes when each result is on the screen, and when the figures are complete.
WATCH = """() => {
  window.results = []; window.complete = 0;
  performance.setResourceTimingBufferSize(10000);
  new MutationObserver(() => results.push({ at: performance.now(), ...JSON.parse(viewer.dataset.result) })).observe(
    window.viewer = document.querySelector("#viewer .viewer"), { attributeFilter: ["data-result"] });
  new MutationObserver(() => { if (!figures.textContent.includes("\\u2026")) complete = performance.now(); }).observe(
    window.figures = document.querySelector("#figures"), { childList: true, subtree: true, characterData: true });
  addEventListener("pointerup", () => { window.released = performance.now(); }, true);
}"""
# Since the drag began: results, and starts and ends of requests for a run, and for pictures that are shown now.
SEEN = """() => {
  const shown = [...viewer.querySelectorAll(".viewer-frame img")].map((image) => image.src);
  const requests = (wanted) => performance.getEntriesByType("resource").filter((one) => wanted(one.name))
    .map((one) => [one.startTime, one.responseEnd]);
  const runs = requests((name) => name.includes("/queue/join")), pictures = requests((name) => shown.includes(name));
  return { results, released, complete, runs, pictures };
}"""


def drag(page: Page) -> dict[str, float]:
    """Move the noise slider to and fro for a while and release it -> what was seen.

    The noise is new each time: files of the same pictures would come from the browser's cache.
    """
    page.evaluate("() => { results.length = 0; }")
    page.click("#reroll")
    page.wait_for_function("() => results.length && !figures.textContent.includes('\\u2026')")
    page.wait_for_timeout(300)
    box = page.locator("#gaussian-sigma input[type=range]").bounding_box()
    assert box
    left, width, y = box["x"], box["width"], box["y"] + box["height"] / 2
    page.mouse.move(left + width * 0.25, y)
    page.evaluate("() => { results.length = 0; complete = 0; performance.clearResourceTimings(); }")
    page.mouse.down()
    started = now = time.perf_counter()
    while now - started < DRAG_SECONDS:
        share = abs((now - started) / DRAG_SECONDS * 2 - 1)  # there and back
        page.mouse.move(left + width * (0.15 + 0.5 * share), y)
        time.sleep(STEP_SECONDS)
        now = time.perf_counter()
    page.mouse.up()
    page.wait_for_timeout(1000)  # a visitor's browser need not look at every frame whether the pictures are there
    page.wait_for_function("() => results.some(r => !r.live) && complete > released", polling=100)
    seen = page.evaluate(SEEN)
    live = [one["at"] for one in seen["results"] if one["live"] and one["at"] < seen["released"]]
    final = next(one["at"] for one in seen["results"] if not one["live"])
    asked = next(start for start, _ in seen["runs"] if start >= seen["released"])
    pictures = [(start, end) for start, end in seen["pictures"] if asked <= start and end <= final] or [(final, final)]
    arrived, loaded = min(start for start, _ in pictures), max(end for _, end in pictures)
    spans = {
        "from release to the final pictures": (seen["released"], final),
        "- until the browser asks: a live picture under way ends first": (seen["released"], asked),
        "- until the answer is there: the server's parts below, its queue": (asked, arrived),
        "- until the files of the pictures are loaded": (arrived, loaded),
        "- until they are decoded, subtracted and drawn": (loaded, final),
        "from release to all figures": (seen["released"], seen["complete"]),
    }
    rate = (len(live) - 1) / (live[-1] - live[0]) * 1000 if len(live) > 1 else 0.0
    return {"new pictures a second": rate} | {f"{name}, ms": end - start for name, (start, end) in spans.items()}


def wait_until_served(app: subprocess.Popen, url: str) -> None:
    """Wait for the demo's first answer.

    Raises:
        RuntimeError: It has ended, or does not answer.
    """
    deadline = time.monotonic() + START_SECONDS
    while app.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError("the demo did not start")


def measure_page(checkpoint: str, chromium: str) -> dict[str, list[float]]:
    """Every drag's figures."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, command = f"http://127.0.0.1:{port}", [sys.executable, "app.py", "--port", str(port)]
    environment = os.environ | {"DENOISER_CHECKPOINT": checkpoint, "HF_HUB_OFFLINE": "1"}
    app = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment)
    try:
        wait_until_served(app, url)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1366, "height": 768})
            page.set_default_timeout(TIMEOUT_SECONDS * 1000)
            page.goto(url)
            page.wait_for_selector("#viewer .viewer[data-result]")
            page.wait_for_timeout(1500)
            page.evaluate(WATCH)
            drag(page)  # prepares kernels of the sizes that follow
            drags = [drag(page) for _ in range(DRAGS)]
            browser.close()
    finally:
        app.terminate()
        try:
            app.wait(10)
        except subprocess.TimeoutExpired:
            app.kill()
    return {name: [one[name] for one in drags] for name in drags[0]}


def median_milliseconds(function: Callable[[], object], repeats: int = 9) -> float:
    """Time of a call."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def parts(checkpoint: str) -> dict[str, float]:
    """What one full picture is made of, in milliseconds."""
    denoiser, picture = Denoiser.from_pretrained(checkpoint), read(PHOTO)
    result = experiment.run(denoiser, picture, "gaussian", {"sigma": 25}, measures=())
    used = result.sigma_used or 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        noisy, denoised = result.noisy.to_pil(), result.denoised.to_pil()
        return {
            "adding noise": median_milliseconds(lambda: add_noise(picture.pixels, "gaussian", 0, sigma=25)),
            "network": median_milliseconds(lambda: denoiser.denoise_pixels(result.noisy, used)),
            "PNG, noisy": median_milliseconds(lambda: save_image(noisy, path, fast=True)),
            "PNG, denoised": median_milliseconds(lambda: save_image(denoised, path, fast=True)),
            "gain of the difference": median_milliseconds(lambda: experiment.difference(result.noisy, result.denoised)),
            "PSNR": median_milliseconds(lambda: experiment.measure(result, ("psnr",))),
            "SSIM, edge fidelity (after the pictures)": median_milliseconds(
                lambda: experiment.measure(result, ("ssim", "edge_fidelity"))
            ),
        }


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slider", description="Measure the page's sliders.")
    parser.add_argument("checkpoints", nargs="*", default=CHECKPOINTS, help="names as in the page's menu")
    checkpoints = parser.parse_args(arguments).checkpoints
    chromium = shutil.which("chromium")
    if chromium is None:
        print("error: this needs chromium on the PATH", file=sys.stderr)
        return 2
    print(f"512 x 512, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} before, {DRAGS} drags each")
    print("| | checkpoint | median | lowest | highest |\n| --- | --- | --- | --- | --- |")
    for checkpoint in checkpoints:
        for name, values in measure_page(checkpoint, chromium).items():
            low, high = min(values), max(values)
            digits = 0 if name.endswith("ms") else 1
            numbers = " | ".join(f"{value:.{digits}f}" for value in (statistics.median(values), low, high))
            print(f"| {name} | {checkpoint} | {numbers} |", flush=True)
    print("\n| part of one picture, on the server | " + " | ".join(f"{name}, ms" for name in checkpoints) + " |")
    print("| --- |" + " --- |" * len(checkpoints))
    columns = [parts(checkpoint) for checkpoint in checkpoints]
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{column[name]:.0f}" for column in columns) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
