"""That the benchmarks work; what they measure is for the machine they run on to say."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import clipping, large, noise_level, quality, signal_dependent, speed, sure
from denoiser import Denoiser, PoissonGaussian
from denoiser.analysis.metrics import psnr
from denoiser.models import Unet, UnetConfig
from train.data.sources import find_images
from train.evaluate import evaluate


def test_the_baseline_has_the_published_shape():
    color, gray = speed.baseline(3), speed.baseline(1)
    for network, depth, width, channels in ((color, 12, 96, 3), (gray, 15, 64, 1)):
        convolutions = list(network.layers)
        assert len(convolutions) == depth and {layer.out_channels for layer in convolutions[:-1]} == {width}
        assert network(torch.rand(1, channels, 8, 12), 0.1).shape == (1, channels, 8, 12)


def test_times_are_ratios_to_the_baseline_of_the_same_run(tiny_model):
    results = speed.compare({"tiny": Denoiser(tiny_model, dtype="float32")}, size=32, runs=1)
    assert set(results) == {"tiny", "FFDNet"}
    for row in results.values():
        for seconds, ratio in row.values():
            assert seconds > 0 and ratio > 0
    assert results["FFDNet"]["float32"][1] == 1
    assert "| tiny |" in speed.table(results)


def measured_at(denoiser, data):
    return quality.measure(denoiser, quality.find_pictures(denoiser, data))


def test_missing_pictures_are_said_before_minutes_of_timing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["quality", "--data", str(tmp_path), "--checkpoints", "bottleneck-color"])
    monkeypatch.setattr(quality.speed, "compare", lambda *given, **more: pytest.fail("it was timed first"))
    assert quality.main() == 2 and "cbsd68" in capsys.readouterr().err


def test_quality_is_measured_under_the_protocol_and_put_beside_the_published(tiny_model, photo, tmp_path):
    pictures = {"cbsd68": photo[:48, :64], "kodak24": photo[:40], "mcmaster": photo[40:80], "set12": photo[:40, :40, 0]}
    for folder, picture in pictures.items():
        (tmp_path / folder).mkdir()
        Image.fromarray(picture).save(tmp_path / folder / "a.png")
    measured = measured_at(Denoiser(tiny_model, dtype="float32"), tmp_path)
    assert set(measured) == {"CBSD68", "Kodak24", "McMaster"} and len(measured["CBSD68"]) == 3
    assert all(5 < value < 60 for values in measured.values() for value in values)
    gray = Denoiser(Unet(UnetConfig(channels=1, widths=(8, 8), blocks=(0, 0))), dtype="float32")
    expected = evaluate(gray, find_images([tmp_path / "cbsd68"]), 25, gray=True)["psnr"]
    measured_gray = measured_at(gray, tmp_path)
    assert set(measured_gray) == {"BSD68", "Set12"} and measured_gray["BSD68"][1] == pytest.approx(expected)
    times = {"tiny": {"float32": (0.5, 0.4), "bfloat16": (0.2, 0.3)}, "FFDNet": {"float32": (1.2, 1.0)}}
    times["FFDNet"]["bfloat16"] = (0.7, 1.0)
    markdown = quality.table({"tiny": measured}, times, {"tiny": 1000})
    row = next(line for line in markdown.splitlines() if line.startswith("| `tiny` |"))
    assert f"{measured['CBSD68'][1]:.2f}" in row and "0.50 (0.40)" in row and "0.20 (0.30)" in row
    assert "| FFDNet | 33.87 / 31.21 / 27.96 | 34.63 / 32.13 / 28.98 |" in markdown
    quality.plot({"tiny": measured}, times, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 500


def test_a_blind_checkpoint_is_measured_on_pairs(photo, tmp_path):
    noisy = photo[:32, :40] // 2 + 30
    for role, pixels in (("clean", photo[:32, :40]), ("noisy", noisy)):
        (tmp_path / "nam25" / role).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "nam25" / role / "01.png")
    blind = Denoiser(Unet(UnetConfig(widths=(8, 8), blocks=(0, 0), blind=True)), dtype="float32")
    before, after, least = measured_at(blind, tmp_path)["nam25"]
    assert least == pytest.approx(after - before) and abs(before - psnr(photo[:32, :40] / 255, noisy / 255)) < 1e-3


class LocalMean(torch.nn.Module):
    """A denoiser that returns the mean of the pixels around."""

    def forward(self, x, level):
        return torch.nn.functional.avg_pool2d(x, 9, 1, 4, count_include_pad=False)


def test_what_undoing_clipping_is_worth_is_measured_beside_what_the_network_has():
    dark = np.full((48, 64, 3), 0.02, np.float32)
    ((before, after),) = clipping.gains(LocalMean(), [dark], "gaussian", {"sigma": 25})
    assert before + 3 < after < np.inf


def test_a_model_is_measured_beside_one_level(photo):
    denoiser = Denoiser.from_pretrained("color-small", device="cpu")
    clean = photo[:128, :128] / np.float32(255)
    figures, flux = signal_dependent.measure(denoiser, clean, "poisson", {"peak": 30}, PoissonGaussian(8.5, 0), 0)
    assert figures[1] > figures[0] and all(abs(value - 1) < 0.03 for value in flux[1:])


def test_sure_is_nearer_where_the_energy_of_the_noise_is_known():
    denoiser, apart = Denoiser.from_pretrained("color-small", device="cpu", dtype="float32"), []
    smooth = np.linspace(0.2, 0.8, 64 * 96 * 3, dtype=np.float32).reshape(
        64, 96, 3
    )  # where nearly all noise is removed
    for seed, case in enumerate([*sure.CASES[:3]] * 2):
        row = sure.measure(denoiser, smooth, case, seed)
        apart.append([10 ** (-one / 10) - 10 ** (-row.true / 10) for one in (row.estimated, row.known)])
    assert np.abs(apart).mean(0)[1] < 0.5 * np.abs(apart).mean(0)[0]


def test_the_noise_level_is_measured_on_pictures_of_every_kind(photo):
    kinds = noise_level.groups([photo[:96, :96] / np.float32(255)])
    assert {"text", "line art", "screenshots", "JPEG 75", "JPEG 90", "upscaled x2"} < set(kinds)
    for name in ("text", "line art", "screenshots"):
        assert max(noise_level.estimates(kinds[name], 0)) == 0
        assert min(noise_level.estimates(kinds[name], 25)) > 12
    assert kinds["upscaled x2"][0].shape == (192, 192, 3)


def test_large_pictures_are_measured_in_processes_of_their_own(tiny_checkpoint, capsys):
    assert large.main([str(tiny_checkpoint), "--megapixels", "0.02"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| 0.02 |") and float(row.split("|")[-2]) > 50


@pytest.mark.parametrize("command", [clipping.main, lambda: noise_level.main()])
def test_pictures_that_are_not_there_are_said_in_a_sentence(tiny_checkpoint, tmp_path, monkeypatch, command):
    checkpoint = [str(tiny_checkpoint)] if command is clipping.main else []
    for more in (["--data", str(tmp_path / "none")], ["--data", str(tmp_path), "--every", "0"]):
        monkeypatch.setattr("sys.argv", ["benchmark", *checkpoint, *more])
        with pytest.raises(SystemExit) as raised:
            command()
        assert raised.value.code == 2 if "--every" in more else str(raised.value.code).startswith("error: ")
