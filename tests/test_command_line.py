import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from denoiser import Denoiser, bundled_checkpoints
from denoiser.__main__ import main
from denoiser.hub.checkpoints import PURPOSES
from denoiser.images.codecs import write_frames
from denoiser.images.picture import read


@pytest.fixture
def pictures(tmp_path, photo):
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.jpg", "deeper/c.tif")):
        Image.fromarray(photo[index * 10 : index * 10 + 48, :64]).save(folder / name)
    return folder


@pytest.fixture
def run(tiny_checkpoint, capsys):
    def run(*arguments):
        checkpoint = [] if "--method" in arguments else ["--checkpoint", str(tiny_checkpoint)]
        status = main([*map(str, arguments), *checkpoint])
        return status, capsys.readouterr().err

    return run


@pytest.fixture
def close_deeper(monkeypatch):
    """Call it, and the folder ``deeper`` cannot be read any more."""
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("deeper"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    return lambda: monkeypatch.setattr(os, "scandir", refuse)


def test_one_picture(run, pictures, tmp_path):
    status, _ = run(pictures / "a.png", "-o", tmp_path / "clean.png", "--sigma", 25)
    assert status == 0
    with Image.open(tmp_path / "clean.png") as clean, Image.open(pictures / "a.png") as noisy:
        assert clean.size == noisy.size and clean.mode == noisy.mode
        assert not np.array_equal(np.asarray(clean), np.asarray(noisy))


def test_a_folder_keeps_its_shape(run, pictures, tmp_path):
    status, error = run(pictures, "-o", tmp_path / "out")
    assert status == 0 and "3/3" in error
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == [
        "a.png",
        "b.jpg",
        "deeper/c.tif",
    ]


def test_failures_are_listed_and_the_others_done(run, pictures, tmp_path):
    (pictures / "bad.png").write_bytes(b"nonsense")
    (pictures / "empty.jpg").touch()
    status, error = run(pictures, "-o", tmp_path / "out")
    assert status == 1 and "2 of 5 pictures failed" in error
    assert "bad.png is not a picture" in error and "empty.jpg is empty" in error
    assert len(list((tmp_path / "out").rglob("*.*"))) == 3


def test_an_input_is_never_overwritten(run, pictures, tmp_path):
    before = (pictures / "a.png").read_bytes()
    for output in (pictures / "a.png", pictures, f"{pictures}/"):
        status, error = run(pictures / "a.png", "-o", output, "--overwrite")
        assert status == 2 and "it would be overwritten" in error
    (tmp_path / "link.png").symlink_to(pictures / "a.png")
    assert run(pictures / "a.png", "-o", tmp_path / "link.png", "--overwrite")[0] == 2
    assert (pictures / "a.png").read_bytes() == before


def test_an_existing_output_is_replaced_only_when_asked(run, pictures, tmp_path):
    output = tmp_path / "clean.png"
    output.write_bytes(b"mine")
    status, error = run(pictures / "a.png", "-o", output)
    assert status == 1 and "--overwrite" in error and output.read_bytes() == b"mine"
    assert run(pictures / "a.png", "-o", output, "--overwrite")[0] == 0
    assert output.read_bytes() != b"mine"


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_no_partial_file_is_left(run, pictures, tmp_path, monkeypatch, options):
    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(os, "link", fail)  # as where there are no hard links
    status, error = run(pictures / "a.png", "-o", tmp_path / "out" / "clean.png", *options)
    assert status == 1 and "disk full" in error
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize(("options", "expected"), [([], 1), (["--skip-existing"], 0), (["--overwrite"], 0)])
def test_a_file_that_comes_while_it_computes_is_not_overwritten(
    run, pictures, tmp_path, monkeypatch, links, options, expected
):
    def write(frames, path, *given, **more):
        path.parent.mkdir(exist_ok=True)
        path.write_text("of another process")
        return write_frames(frames, path, *given, **more)

    def refuse(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("denoiser.file_jobs.write_frames", write)
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    status, error = run(pictures / "a.png", "-o", tmp_path / "out" / "a.png", *options)
    (path,) = (tmp_path / "out").iterdir()
    assert status == expected and (path.read_bytes() == b"of another process") == (options != ["--overwrite"])
    assert ("exist" in error) == (options != ["--overwrite"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sigma", "300"], "--sigma must be from 0 to 255"),
        (["--strength", "2"], "--strength must be from 0 to 1"),
        (["--page", "0"], "--page counts from 1"),
    ],
)
def test_numbers_out_of_range_are_refused_before_any_work(run, pictures, tmp_path, arguments, message):
    status, error = run(pictures, "-o", tmp_path / "out", *arguments)
    assert status == 2 and message in error and not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused_before_any_work(run, pictures, tmp_path):
    status, error = run(pictures / "a.png", "-o", tmp_path / "x.xyz")
    assert status == 2 and "cannot tell the format from 'x.xyz'" in error


def test_an_output_folder_inside_the_input_is_no_input(run, pictures):
    for _ in range(2):
        assert run(pictures, "-o", pictures / "out", "--overwrite")[0] == 0
    assert len([path for path in (pictures / "out").rglob("*") if path.is_file()]) == 3


def test_an_unexpected_error_is_listed_and_the_others_done(run, pictures, tmp_path, monkeypatch):
    from denoiser.models import Unet

    encode, calls = Unet.encode, []

    def fail_once(self, x, level):
        calls.append(x.shape)
        if len(calls) == 1:
            raise RuntimeError("not enough memory: you tried to allocate")
        return encode(self, x, level)

    monkeypatch.setattr(Unet, "encode", fail_once)
    status, error = run(pictures, "-o", tmp_path / "out")
    assert status == 1 and "1 of 3 pictures failed" in error and "RuntimeError: not enough memory" in error


def test_two_pictures_of_one_name_are_refused(run, pictures, tmp_path):
    (pictures / "deeper" / "a.png").write_bytes((pictures / "a.png").read_bytes())
    status, error = run(pictures / "a.png", pictures / "deeper" / "a.png", "-o", tmp_path / "out")
    assert status == 2 and "would both become" in error


def test_an_empty_folder_and_an_unknown_checkpoint_are_refused(run, tmp_path, pictures, capsys):
    (tmp_path / "none").mkdir()
    assert run(tmp_path / "none", "-o", tmp_path / "out")[0] == 2
    assert main([str(pictures), "-o", str(tmp_path / "out"), "--checkpoint", "unheard-of"]) == 2
    assert "no checkpoint 'unheard-of'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "name", "message"),
    [
        ("I;16", "x.jpg", "cannot hold 16 bits"),
        ("RGBA", "x.jpg", "cannot hold transparency"),
    ],
)
def test_formats_that_would_lose_something_are_refused(run, tmp_path, mode, name, message):
    source = tmp_path / "source.png"
    if mode == "I;16":
        Image.fromarray(np.zeros((16, 16), np.uint16)).save(source)
    else:
        Image.new(mode, (16, 16)).save(source)
    status, error = run(source, "-o", tmp_path / name)
    assert status == 1 and message in error and not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["b.jpg", "b.png", "b.tif", "b.webp"])
@pytest.mark.parametrize("origin", ["a.jpg", "a.tif"])
def test_profile_and_camera_data_reach_the_file(run, tmp_path, origin, name):
    exif = Image.Exif()
    exif[0x010F], exif[0x013B] = "Maker", "Artist"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (16, 16)).save(tmp_path / origin, exif=exif, icc_profile=profile, dpi=(300, 300))
    assert run(tmp_path / origin, "-o", tmp_path / name)[0] == 0
    with Image.open(tmp_path / name) as written:
        assert written.getexif()[0x010F] == "Maker" and written.getexif()[0x013B] == "Artist"
        assert written.info["icc_profile"] == profile
        if name != "b.webp":
            assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_trailing_slash_makes_a_folder(run, pictures, tmp_path):
    status, error = run(pictures / "a.png", "-o", f"{tmp_path / 'new'}/")
    assert status == 0 and (tmp_path / "new" / "a.png").is_file(), error


def test_wildcards_that_the_shell_leaves_alone_are_expanded(run, pictures, tmp_path):
    status, _ = run(pictures / "*.png", "-o", f"{tmp_path / 'out'}/")
    assert status == 0 and (tmp_path / "out" / "a.png").is_file()
    status, error = run(pictures / "*.gif", "-o", f"{tmp_path / 'out'}/")
    assert status == 1 and "There is no file *.gif" in error


def test_jfif_is_jpeg_and_what_macos_leaves_beside_files_is_no_picture(run, pictures, tmp_path):
    (pictures / "b.jpg").rename(pictures / "b.jfif")
    (pictures / "._b.jpg").write_bytes(b"resource fork")
    (pictures / ".thumbnails").mkdir()
    (pictures / ".thumbnails" / "b.jpg").write_bytes(b"of a file manager")
    status, error = run(pictures, "-o", tmp_path / "out")
    assert status == 0, error
    with Image.open(tmp_path / "out" / "b.jfif") as written:
        assert written.format == "JPEG"


def test_a_name_that_lies_about_its_content_does_not_stop_a_folder(run, pictures, tmp_path):
    (pictures / "b.jpg").unlink()
    Image.new("RGBA", (32, 32), (90, 100, 110, 128)).save(pictures / "b.jpg", "PNG")
    status, error = run(pictures, "-o", tmp_path / "out")
    assert status == 0 and "written as" in error
    with Image.open(tmp_path / "out" / "b.png") as written:
        assert written.mode == "RGBA"
    status, error = run(pictures / "b.jpg", "-o", tmp_path / "one.jpg")
    assert status == 1 and "cannot hold transparency; write one.png instead" in error


def test_a_device_that_is_not_there_is_named(run, pictures, tmp_path):
    status, error = run(pictures / "a.png", "-o", tmp_path / "b.png", "--device", "xpu")
    assert status == 2 and "device 'xpu' cannot be used here" in error and "use 'auto' or 'cpu'" in error
    for device in ("vulkan", "meta", "cuda:9", "nonsense"):
        status, error = run(pictures / "a.png", "-o", tmp_path / "b.png", "--device", device)
        assert status == 2 and f"device '{device}' cannot be used here" in error and len(error) < 400


def test_a_folder_of_pictures_called_as_a_checkpoint_is_not_one(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures.rename(tmp_path / "photo")
    assert main(["photo/a.png", "-o", "clean.png", "--checkpoint", "photo"]) == 0


def test_every_page_of_a_stack_is_denoised_and_kept_with_what_describes_it(run, tmp_path):
    stack = np.random.default_rng(0).integers(9_000, 50_000, (4, 32, 40), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, imagej=True, resolution=(6.15, 6.15), metadata={"axes": "ZYX", "unit": "um"}
    )
    assert run(tmp_path / "a.tif", "-o", tmp_path / "b.tif", "--sigma", 25)[0] == 0
    with tifffile.TiffFile(tmp_path / "b.tif") as written:
        denoised = written.asarray()
        assert denoised.shape == stack.shape and written.imagej_metadata["unit"] == "um"
    assert all((after != before).mean() > 0.5 for after, before in zip(denoised, stack))
    assert run(tmp_path / "a.tif", "-o", tmp_path / "c.tif", "--sigma", 25, "--page", 3)[0] == 0
    assert np.array_equal(tifffile.imread(tmp_path / "c.tif"), denoised[2])
    status, error = run(tmp_path / "a.tif", "-o", tmp_path / "d.tif", "--page", 5)
    assert status == 1 and "no page 5; there are 4" in error
    status, error = run(tmp_path / "a.tif", "-o", tmp_path / "d.jpg")
    assert status == 1 and "write d.png or .tif" in error


def test_an_animation_becomes_one_in_a_format_that_holds_its_colors(run, tmp_path):
    (tmp_path / "in").mkdir()
    first, *rest = (Image.new("RGB", (32, 24), (40 * index, 90, 200)) for index in range(1, 4))
    first.save(tmp_path / "in" / "a.gif", save_all=True, append_images=rest, duration=80)
    status, error = run(tmp_path / "in", "-o", tmp_path / "out", "--sigma", 25)
    assert status == 0 and "written as" in error
    with Image.open(tmp_path / "out" / "a.png") as written:
        assert written.n_frames == 3 and written.is_animated


def test_a_side_that_the_format_cannot_hold_is_refused_before_computing_and_in_a_folder_becomes_png(run, tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (16_384, 2), (90, 120, 60)).save(tmp_path / "in" / "a.jpg")
    status, error = run(tmp_path / "in" / "a.jpg", "-o", tmp_path / "b.webp", "--sigma", 25)
    assert status == 1 and "16383 at most; PNG and TIFF can" in error
    Image.new("RGB", (65_501, 2), (90, 120, 60)).save(tmp_path / "in" / "c.png")
    (tmp_path / "in" / "c.png").rename(tmp_path / "in" / "c.jpg")
    status, error = run(tmp_path / "in" / "c.jpg", "-o", f"{tmp_path / 'out'}/", "--sigma", 25)
    assert (
        status == 0 and "65500 at most" in error and [path.name for path in (tmp_path / "out").iterdir()] == ["c.png"]
    )


def test_every_name_of_a_jpeg_is_found_in_a_folder(run, pictures, tmp_path):
    (pictures / "b.jpg").rename(pictures / "b.jpe")
    Image.new("RGB", (24, 24), (90, 120, 60)).save(pictures / "c.mpo")
    status, error = run(pictures, "-o", tmp_path / "out", "--sigma", 25)
    assert status == 0, error
    assert {"b.jpe", "c.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_what_became_another_format_is_not_written_twice_in_two(run, tmp_path):
    Image.new("RGB", (24, 24), (90, 120, 60)).save(tmp_path / "a.gif")
    for expected in (0, 1):
        status, error = run(tmp_path / "a.gif", "-o", f"{tmp_path / 'out'}/")
        assert status == expected and ("a.png exists" in error) == bool(expected), error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("lost", "expected", "message"),
    [
        (BrokenPipeError(), 0, "wrote 3 pictures"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "--json cannot be written: No space left on device"),
    ],
)
def test_lines_that_nobody_can_read_stop_no_picture(run, pictures, tmp_path, monkeypatch, lost, expected, message):
    def gone(text, file=None):
        if file is not sys.stderr:
            raise lost

    with open(os.devnull, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr("denoiser.__main__.tqdm.write", gone)
        patch.setattr("sys.stdout", stdout)
        status, error = run(pictures, "-o", tmp_path / "out", "--json")
    assert status == expected and "wrote 3 pictures" in error and message in error


def test_the_result_of_another_picture_is_not_taken_for_a_picture_s_own(run, tmp_path, photo):
    Image.fromarray(photo[:32, :40]).save(tmp_path / "a.png")
    Image.fromarray(photo[40:72, :50]).save(tmp_path / "a.jpg")
    for name in ("a.png", "a.jpg"):
        status, error = run(tmp_path / name, "-o", f"{tmp_path / 'out'}/", "--skip-existing")
        assert status == 0 and "wrote" in error and "skipped" not in error
    assert [Image.open(tmp_path / "out" / name).width for name in ("a.png", "a.jpg")] == [40, 50]


def test_a_folder_that_cannot_be_read_is_a_failure(run, pictures, tmp_path, close_deeper):
    close_deeper()
    status, error = run(pictures, "-o", tmp_path / "out")
    assert status == 1 and "wrote 2 pictures" in error
    assert f"{pictures / 'deeper'}: it cannot be read: Permission denied" in error


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_links_to_nothing_and_round_in_a_circle_are_failures(run, pictures, tmp_path):
    (pictures / "gone.png").symlink_to("nowhere.png")
    (pictures / "round.png").symlink_to("round.png")
    (pictures / "gone.txt").symlink_to("nowhere.txt")
    status, error = run(pictures, "-o", tmp_path / "out")
    assert status == 1 and "wrote 3 pictures" in error and "2 of 5 pictures failed" in error
    assert f"{pictures / 'gone.png'}: it cannot be read: No such file" in error
    assert f"{pictures / 'round.png'}: it cannot be read: Too many levels" in error
    named = [pictures / name for name in ("gone.png", "round.png", "a.png")]
    status, error = run(*named, "-o", tmp_path / "named")
    assert status == 1 and "wrote 1 pictures" in error and "2 of 3 pictures failed" in error
    (pictures / "inside").mkdir()
    (pictures / "inside" / "a.png").symlink_to("a.png")  # an output
    status, error = run(pictures, "-o", pictures / "inside")
    assert status == 1 and "wrote 2 pictures" in error and "3 of 5 pictures failed" in error


def test_what_cannot_be_read_now_is_not_taken_for_done(run, pictures, tmp_path, close_deeper):
    assert run(pictures, "-o", tmp_path / "out")[0] == 0
    close_deeper()
    status, error = run(pictures, "-o", tmp_path / "out", "--skip-existing")
    assert status == 1 and "2 of 3 pictures skipped" in error and "Permission denied" in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_messages_that_nobody_can_read_stop_no_picture(tiny_checkpoint, pictures, tmp_path):
    command = [sys.executable, "-m", "denoiser", str(pictures), "-o", str(tmp_path / "out"), "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run([*command, "--checkpoint", str(tiny_checkpoint)], stdout=subprocess.PIPE, stderr=full)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3


def test_a_picture_named_twice_is_done_once_and_an_empty_folder_is_named(run, pictures, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(pictures)
    (pictures / "empty").mkdir()
    (pictures / "itself").symlink_to(pictures)
    (tmp_path / "alias").symlink_to(pictures)
    status, error = run("a.png", pictures / "a.png", pictures, tmp_path / "alias", "empty", "-o", tmp_path / "out")
    assert status == 0 and "wrote 3 pictures" in error
    assert [record.message for record in caplog.records] == ["there are no pictures in empty"]


def test_an_export_that_is_interrupted_ends_as_a_run_does(monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("denoiser.__main__.export.main", interrupted)
    assert main(["export", "color-small", "-o", "a.onnx"]) == 130


@pytest.mark.parametrize("option", [None, "--overwrite", "--skip-existing"])
def test_pictures_that_differ_in_their_ending_alone_do_not_become_one(run, tmp_path, option):
    colors = {"a.gif": (200, 40, 40), "a.png": (40, 200, 40), "b.gif": (40, 40, 200)}
    (tmp_path / "in").mkdir()
    for name, color in colors.items():
        Image.new("RGB", (24, 24), color).save(tmp_path / "in" / name)
    Image.new("RGBA", (24, 24), (90, 90, 90, 128)).save(tmp_path / "in" / "a.jpg", "PNG")  # its name lies
    for _ in range(2 if option else 1):
        status, error = run(tmp_path / "in", "-o", tmp_path / "out", *filter(None, [option]))
        assert status == 0, error
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.gif.png", "a.jpg.png", "a.png", "b.png"}
    for name, color in {"a.gif.png": colors["a.gif"], "a.png": colors["a.png"], "b.png": colors["b.gif"]}.items():
        assert np.abs(read(tmp_path / "out" / name).pixels.mean((0, 1)) * 255 - color).max() < 30
    Image.new("RGB", (24, 24)).save(tmp_path / "in" / "a.gif.png")
    status, error = run(tmp_path / "in", "-o", tmp_path / "other")
    assert status == 2 and "a.gif.png" in error and "would both become" in error and not (tmp_path / "other").exists()


def test_a_damaged_tiff_is_told_in_our_words_alone(run, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])  # those of pytest, which keep from stderr what nobody handles
    tifffile.imwrite(tmp_path / "a.tif", photo, photometric="rgb", resolution=(300, 300), software="some program")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        count_at, strip = tif.pages[0].tags["Software"].offset + 4, tif.pages[0].dataoffsets[0]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[count_at : count_at + 4] = b"\xff\xff\xff\x7f"  # so long a text is not in the file
    (tmp_path / "tag.tif").write_bytes(content)
    (tmp_path / "cut.tif").write_bytes(content[: strip + 500])
    status, error = run(tmp_path / "tag.tif", tmp_path / "cut.tif", "-o", tmp_path / "out", "--sigma", 9)
    assert status == 1 and "cut.tif is damaged or truncated" in error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tag.tif"]
    assert not any(word in error for word in ("TiffTag", "TiffPage", "tifffile"))


def test_sixteen_bit_color_is_computed_and_written_in_full(run, tmp_path):
    deep = np.random.default_rng(0).integers(9_000, 50_000, (32, 40, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb")
    for name in ("b.tif", "b.png"):
        assert run(tmp_path / "a.tif", "-o", tmp_path / name, "--sigma", 25)[0] == 0
    written = tifffile.imread(tmp_path / "b.tif")
    assert written.dtype == np.uint16 and len(np.unique(written)) > 3_000
    assert np.array_equal(np.asarray(read(tmp_path / "b.png").restore(read(tmp_path / "b.png").pixels)), written)


def test_what_the_output_cannot_hold_is_named_before_computing(run, tmp_path, caplog, monkeypatch):
    info = PngImagePlugin.PngInfo()
    info.add_text("Copyright", "someone")
    Image.new("RGB", (32, 24), (40, 90, 200)).save(tmp_path / "a.png", pnginfo=info, dpi=(300, 300))
    said = []
    monkeypatch.setattr(
        "denoiser.__main__.Denoiser.__call__", lambda self, frame, *_: said.append(caplog.text) or 1 / 0
    )
    run(tmp_path / "a.png", "-o", tmp_path / "b.webp")
    assert len(said) == 1 and ".webp cannot hold text, resolution" in said[0]


def test_standard_input_to_standard_output(run, tiny_checkpoint, pictures, monkeypatch):
    command = [sys.executable, "-m", "denoiser", "-", "-o", "-", "--sigma", "9", "--checkpoint", str(tiny_checkpoint)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, input=(pictures / "b.jpg").read_bytes(), capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout)) as clean:
        assert clean.format == "PNG" and clean.size == (64, 48)

    def piped(content: bytes, *more: str) -> tuple[int, str, bytes]:
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", io.TextIOWrapper(written, write_through=True))
            status, error = run("-", "-o", "-", *more)
            return status, error, written.getvalue()

    status, _, content = piped((pictures / "a.png").read_bytes(), "--format", "webp")
    with Image.open(io.BytesIO(content)) as clean:
        assert status == 0 and clean.format == "WEBP"
    status, error, content = piped(b"no picture")
    assert status == 1 and content == b"" and "is not a picture" in error


def test_standard_input_that_does_not_end_is_left_by_ctrl_c(run, tmp_path, monkeypatch):
    def wait() -> bytes:
        assert threading.current_thread() is threading.main_thread()  # the one that a signal interrupts
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=SimpleNamespace(read=wait)))
    status, error = run("-", "-o", tmp_path / "clean.png")
    assert status == 130 and "stopped after 0 of 1 pictures" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "-o", "out/"], "standard input has no name"),
        (["a.png", "-o", ""], "the name of the output is empty"),
        (["a.png", "-o", "https://example.com/b.png"], "https://example.com/b.png is an address"),
        (["a.png", "b.jpg", "-o", "-"], "standard output takes one picture"),
        (["a.png", "-o", "-", "--json"], "cannot both go to standard output"),
        (["a.png", "-o", "x.png", "--overwrite", "--skip-existing"], "exclude each other"),
        (["a.png", "-o", "x.png", "--format", "tiff"], "does not end in .tif"),
        (["a.png", "-o", "x.png", "--method", "median", "--device", "cpu"], "--device is for checkpoints"),
        (["a.png", "-o", "x.png", "--method", "median", "--self-ensemble"], "--self-ensemble is for"),
        (["a.png", "-o", "x.png", "--method", "median", "--checkpoint", "photo"], "--checkpoint is for checkpoints"),
        (["a.png", "-o", "x.png", "--revision", "v1"], "There is no revision 'v1' of"),
    ],
)
def test_what_cannot_go_together_is_refused(run, pictures, monkeypatch, arguments, message):
    monkeypatch.chdir(pictures)
    status, error = run(*arguments)
    assert status == 2 and message in error


def test_a_package_that_a_method_needs_is_named_once(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)  # as if it were not installed
    status, error = run(pictures, "-o", tmp_path / "out", "--method", "bm3d")
    assert status == 2 and error.count("pip install") == 1


def test_closed_streams_lose_nothing(tiny_checkpoint, pictures, tmp_path, monkeypatch, capsys):
    command = f"{sys.executable} -m denoiser {pictures}/a.png --checkpoint {tiny_checkpoint}"
    subprocess.run(f"{command} -o {tmp_path}/x.png <&- >&- 2>&-", shell=True, check=True)
    assert (tmp_path / "x.png").exists()
    for name, given, status, said in (
        ("stdin", ["-", "-o", str(tmp_path / "y.png")], 1, "the file is empty"),
        ("stdout", [str(pictures / "a.png"), "-o", "-"], 2, "standard output is closed"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, None)  # as Python has a stream that is closed
            assert main([*given, "--checkpoint", str(tiny_checkpoint)]) == status
        assert said in capsys.readouterr().err
    assert not (tmp_path / "y.png").exists()


def test_a_link_to_nothing_is_an_existing_output(run, pictures, tmp_path):
    (tmp_path / "x.png").symlink_to(tmp_path / "nowhere.png")
    status, error = run(pictures / "a.png", "-o", tmp_path / "x.png")
    assert status == 1 and "--overwrite replaces it" in error and (tmp_path / "x.png").is_symlink()


def test_a_folder_in_another_format(run, pictures, tmp_path):
    assert run(pictures, "-o", tmp_path / "out", "--format", "tiff")[0] == 0
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert names == ["a.tif", "b.tif", "deeper/c.tif"]


def test_an_interrupted_folder_goes_on(run, pictures, tmp_path):
    Image.new("RGBA", (32, 32), (90, 100, 110, 128)).save(pictures / "d.jpg", "PNG")
    assert run(pictures, "-o", tmp_path / "out")[0] == 0
    (tmp_path / "out" / "b.jpg").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    status, error = run(pictures, "-o", tmp_path / "out", "--skip-existing")
    assert status == 0 and "3 of 4 pictures skipped" in error and "wrote 1 pictures" in error
    assert (tmp_path / "out" / "b.jpg").is_file()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    status, error = run(pictures, "-o", tmp_path / "out", "--skip-existing")
    assert status == 0 and "4 of 4 pictures skipped" in error


def test_json_says_what_became_of_each_picture(tiny_checkpoint, pictures, tmp_path, capsys):
    (pictures / "bad.png").write_bytes(b"nonsense")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").touch()
    status = main(
        [str(pictures), "-o", str(tmp_path / "out"), "--skip-existing", "--json", f"--checkpoint={tiny_checkpoint}"]
    )
    entries = {Path(one["input"]).name: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert status == 1 and set(entries) == {"a.png", "b.jpg", "bad.png", "c.tif"}
    assert entries["a.png"]["status"] == "skipped" and entries["bad.png"]["status"] == "failed"
    assert "is not a picture" in entries["bad.png"]["reason"]
    assert entries["b.jpg"] == {
        "input": str(pictures / "b.jpg"),
        "status": "written",
        "output": str(tmp_path / "out" / "b.jpg"),
    }


@pytest.mark.parametrize("name", ["Größe und 写真 📷.png", "x" * 240 + ".png", "a b'c\"d.png", "-dash.png"])
def test_names_of_any_letters_and_length(run, photo, tmp_path, name):
    (tmp_path / "in").mkdir()
    Image.fromarray(photo[:24, :32]).save(tmp_path / "in" / name)
    status, error = run(tmp_path / "in", "-o", tmp_path / "out")
    assert status == 0, error
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_a_result_whose_name_would_be_too_long_is_said_and_the_others_are_written(run, photo, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b" * 251):
        Image.fromarray(photo[:20, :20]).save(tmp_path / "in" / f"{name}.png")
    for more in ((), ("--skip-existing",)):
        status, said = run(tmp_path / "in", "-o", f"{tmp_path}/out/", "--format", "webp", *more)
        assert status == 1 and "is too long: 256 bytes" in said
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.webp"]


def test_links_to_folders_are_not_followed(run, pictures, tmp_path):
    (pictures / "again").symlink_to(pictures, target_is_directory=True)
    (tmp_path / "link").symlink_to(pictures, target_is_directory=True)
    assert run(tmp_path / "link", "-o", f"{tmp_path}/out/")[0] == 0
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"a.png", "b.jpg", "deeper/c.tif"}


def test_a_folder_with_the_name_of_a_picture_is_a_folder(run, pictures, tmp_path):
    (pictures / "deeper").rename(pictures / "x.tif")
    status, error = run(pictures, "-o", tmp_path / "out")
    assert status == 0, error
    assert (tmp_path / "out" / "x.tif" / "c.tif").is_file()


def test_the_help_says_what_each_checkpoint_is_for(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert set(PURPOSES) == set(bundled_checkpoints())
    assert all(name in text and purpose in text for name, purpose in PURPOSES.items())


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")
def test_what_is_interrupted_leaves_nothing_half_written(tiny_checkpoint, photo, tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(40):
        Image.fromarray(photo).save(tmp_path / "in" / f"{index:02}{60 * '-'}.png")
    command = [sys.executable, "-m", "denoiser", "in", "-o", "out", "--json", "--checkpoint", str(tiny_checkpoint)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        pipesize=4096,  # for 20 pictures' lines: however long it takes us, it does not come to the last picture
    ) as program:
        assert program.stdout and program.stderr
        first = json.loads(program.stdout.readline())
        program.send_signal(signal.SIGINT)
        program.stdout.read()
        error = program.stderr.read().decode()
        assert program.wait(600) == 130 and "stopped after" in error and "Traceback" not in error
    left = list((tmp_path / "out").iterdir())
    assert (tmp_path / first["output"]) in left and len(left) < 40
    for path in left:
        with Image.open(path) as image:
            image.load()
        assert not path.name.startswith(".partial")


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no such signals")
def test_what_is_terminated_ends_as_by_ctrl_c(run, pictures, tmp_path, monkeypatch):
    calls, compute = [], Denoiser.__call__

    def terminated(*given):
        if calls:
            os.kill(os.getpid(), signal.SIGTERM)
        calls.append(given)
        return compute(*given)

    monkeypatch.setattr("denoiser.__main__.Denoiser.__call__", terminated)
    status, error = run(pictures, "-o", tmp_path / "out")
    assert status == 130 and "stopped after" in error and len(calls) == 1
    assert {path.name for path in (tmp_path / "out").rglob("*.*")} <= {"a.png"}  # and no file that was begun


def test_progress_is_shown_within_a_picture(run, pictures, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("denoiser.pipeline.TILE", 16)
    monkeypatch.setattr("denoiser.pipeline.MARGIN", 8)
    monkeypatch.setattr("denoiser.__main__.tqdm.update", lambda self, n: seen.append(self.n))
    assert run(pictures / "a.png", "-o", tmp_path / "x.png")[0] == 0
    assert len(seen) > 4 and seen == sorted(seen) and 0 < seen[0] < 0.5


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["a.png", "a.png", "-o", "out/"], ["a.png"]),
        ([".", "a.png", "-o", "out"], ["a.png", "v1.2.png"]),
        (["v1.2", "-o", "out/"], ["v1.2.png"]),
        (["v1.2", "-o", "out/", "--format", "jpeg"], ["v1.2.jpg"]),
        (["a.png", "-o", "out/b.jpeg", "--format", "jpeg"], ["b.jpeg"]),
        (["a.png", "-o", "out/b.tiff", "--format", "tiff"], ["b.tiff"]),
    ],
)
def test_what_results_are_called(run, photo, tmp_path, monkeypatch, arguments, written):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "v1.2.png") if "." in arguments else ("a.png", "v1.2"):
        Image.fromarray(photo[:8, :8]).save(name, "PNG")
    status, error = run(*arguments)
    assert status == 0, error
    assert sorted(path.name for path in Path("out").iterdir()) == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "-o", "in"], "is an input"),
        (["in/deeper", "-o", "in"], ""),
        (["", "-o", "out"], "name of a picture is empty"),
        (["inn", "-o", "out"], "there is no inn"),
        (["in/a.png", "-o", "x" * 300 + ".png"], "too long"),
        (["in/a.png", "-o", "in/b.jpg/c.png"], "nothing can be written to"),
    ],
)
def test_outputs_and_inputs_that_cannot_be_are_named(run, pictures, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}
    status, error = run(*arguments)
    assert (status != 0) == bool(message) and message in error, error
    assert all(path.read_bytes() == content for path, content in before.items())


def test_an_input_is_never_replaced_whichever_path_leads_to_it(run, pictures, tmp_path, monkeypatch):
    """As where case does not count, or a folder is mounted twice: no path says that it is the same file."""
    (tmp_path / "again").symlink_to(pictures)
    monkeypatch.setattr("denoiser.file_jobs._resolve", Path.absolute)
    before = (pictures / "a.png").read_bytes()
    status, error = run(pictures / "a.png", "-o", tmp_path / "again" / "a.png", "--overwrite")
    assert status == 2 and "is an input" in error and (pictures / "a.png").read_bytes() == before
    os.link(pictures / "a.png", tmp_path / "other.png")  # a name of its own: the input stays
    status, error = run(pictures / "a.png", "-o", tmp_path / "other.png", "--overwrite")
    assert status == 0 and (pictures / "a.png").read_bytes() == before != (tmp_path / "other.png").read_bytes()
