import shutil
import tarfile
import unicodedata

import numpy as np
import pytest
from PIL import Image

from denoiser import ImageUnreadable
from train.__main__ import main
from train.data.sources import Source, find_images, match_pairs, split_held_out


def test_pairs_without_a_partner_are_named(config, pairs, tmp_path, arguments, capsys):
    (tmp_path / "lonely").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "lonely" / "99.png")
    more = ["--clean", str(pairs / "gt"), str(tmp_path / "lonely"), "--noisy", str(pairs / "noise")]
    assert main(arguments(config(), None, tmp_path / "run", *more)) == 2
    assert "no partner of the same name, such as 99" in capsys.readouterr().err
    assert main(arguments(config(), None, tmp_path / "run", "--clean", str(pairs / "gt"))) == 2
    assert "--clean and --noisy together" in capsys.readouterr().err


def test_tar_files_are_read_like_folders(photographs, tmp_path):
    with tarfile.open(tmp_path / "photographs.tar", "w") as tar:
        tar.add(photographs, "inside")
    from_folder, from_tar = find_images([photographs]), find_images([tmp_path / "photographs.tar"])
    assert [source.name for source in from_folder] == [source.name for source in from_tar]
    for a, b in zip(from_folder[1:], from_tar[1:]):  # the first is broken.jpg
        assert np.array_equal(np.asarray(a.read(3)), np.asarray(b.read(3)))
    with pytest.raises(ImageUnreadable):
        from_tar[0].read(3)
    (tmp_path / "wrong.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match=r"wrong\.tar is not an uncompressed tar"):
        find_images([tmp_path / "wrong.tar"])


def test_sixteen_bit_gray_photographs_are_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    (source,) = find_images([tmp_path])
    assert np.abs(np.asarray(source.read(1)) - ramp / 257).max() <= 0.51


def test_the_split_depends_on_names_only(tmp_path):
    sources = [Source(tmp_path / f"{index}.png", f"{index}.png") for index in range(400)]

    def split(sources, share, groups=None):
        training, held_out = split_held_out(sources, share, groups or {})
        return training, [source for members in held_out.values() for source in members]

    training, held_out = split(sources, 0.1)
    assert 20 < len(held_out) < 60 and set(training) | set(held_out) == set(sources)
    assert set(split(sources[::2], 0.1)[1]) == set(held_out) & set(sources[::2])
    assert [len(part) for part in split(sources[:2], 0.001)] == [1, 1]
    # Where named ones are there, they alone are held out, by group.
    groups = {"crisp": ["3.png", "not there.png"], "smooth": ["7.png"], "gone": ["x.png"]}
    training, held_out = split_held_out(sources, 0.1, groups)
    assert held_out == {"crisp": [sources[3]], "smooth": [sources[7]]} and len(training) == 398
    assert split(sources, 0.1, {"gone": ["x.png"]}) == split(sources, 0.1)


def test_pairs_of_which_two_have_one_name_are_refused(pairs, tmp_path):
    shutil.copytree(pairs / "gt", tmp_path / "scene" / "gt")
    with pytest.raises(ValueError, match="both pictures are called 00"):
        match_pairs([pairs / "gt", tmp_path / "scene"], [pairs / "noise"])


def test_names_of_macs_and_of_other_systems_are_the_same(tmp_path):
    for form, folder in (("NFD", "clean"), ("NFC", "noisy")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / unicodedata.normalize(form, "été.png"))
    clean, noisy = match_pairs([tmp_path / "clean"], [tmp_path / "noisy"])
    assert clean[0].name == noisy[0].name and clean[0].read(3).size == noisy[0].read(3).size
