"""How long a visitor waits: from letting go of a slider to the new pictures on the screen.

    python -m benchmarks.slider

Starts the demo, opens it in headless Chromium, moves the noise slider and takes the time until the denoised picture
has been loaded and decoded. Upload, network and a visitor's own screen come on top.
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
URL = "http://127.0.0.1:7899"
MOVES = 15
WAIT = """([noisy, denoised]) => {
  const sources = ["noisy-out", "denoised-out"].map(id => document.querySelector(`#${id} img`));
  return sources.every((img, i) => img && img.complete && img.naturalWidth && img.src != [noisy, denoised][i]);
}"""
SOURCES = '() => ["noisy-out", "denoised-out"].map(id => document.querySelector(`#${id} img`).src)'


def main() -> int:
    """Measure and print; returns the exit status."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("error: this needs chromium on the PATH", file=sys.stderr)
        return 2
    app = subprocess.Popen(
        [sys.executable, "app.py", "--port", URL.rsplit(":", 1)[1]], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(URL, timeout=5).read()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(URL)
            page.wait_for_selector("#denoised-out img", timeout=60_000)
            page.wait_for_timeout(1500)
            box = page.locator("#gaussian-sigma input[type=range]").bounding_box()
            y = box["y"] + box["height"] / 2
            seconds = []
            for move in range(MOVES):
                before = page.evaluate(SOURCES)
                page.mouse.move(box["x"] + box["width"] * 0.3, y)
                page.mouse.down()
                page.mouse.move(box["x"] + box["width"] * (0.15 + 0.035 * move), y, steps=4)
                started = time.perf_counter()
                page.mouse.up()
                page.wait_for_function(WAIT, arg=before, polling=10)
                seconds.append(time.perf_counter() - started)
                page.wait_for_timeout(300)
            size = page.evaluate(
                "() => { const i = document.querySelector('#denoised-out img'); return "
                "`${i.naturalWidth} x ${i.naturalHeight}` }"
            )
            browser.close()
    finally:
        app.terminate()
        app.wait()
    load = os.getloadavg()[0]
    print(f"{size}, {torch.get_num_threads()} threads, load {load:.1f} at the end, {MOVES} moves of the noise slider")
    print("| | seconds |\n| --- | --- |")
    for name, value in (("fastest", min(seconds)), ("median", statistics.median(seconds)), ("slowest", max(seconds))):
        print(f"| {name} | {value:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
