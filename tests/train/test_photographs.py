import os
import shutil

import numpy as np
import torch
from PIL import Image

from train.data.photographs import Photographs
from train.data.sources import find_images


def test_what_was_decoded_is_cached_until_the_files_change(photographs, tmp_path):
    def load(folder):
        return Photographs(find_images([folder]), 3, (0.5, 1), 2, 32, torch.device("cpu"), cache=tmp_path / "cache")

    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    first = load(folder)
    (entry,) = (tmp_path / "cache").iterdir()
    written = (entry / "pixels.npy").stat().st_mtime_ns
    second = load(folder)
    assert torch.equal(first.pixels, second.pixels) and torch.equal(first.offsets, second.offsets)
    assert first.skipped == second.skipped != [] and (entry / "pixels.npy").stat().st_mtime_ns == written
    (folder / "p0.png").write_bytes((folder / "p1.png").read_bytes())
    assert not torch.equal(load(folder).pixels[:1000], first.pixels[:1000])


def test_the_caches_used_last_are_kept_and_nothing_else_is_touched(photographs, tmp_path):
    caches = tmp_path / "cache"
    mine = caches / ("a" * 24)  # looks like a cache, holds something else
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    (caches / "elsewhere").mkdir()
    (caches / "elsewhere" / "table.json").write_text("{}")
    sources = find_images([photographs])

    def load(seed):
        Photographs(sources, 3, (0.5, 1), 1, 32, torch.device("cpu"), seed, cache=caches)
        tables = [folder / "table.json" for folder in caches.iterdir() if (folder / "pixels.npy").exists()]
        used = max(tables, key=lambda table: table.stat().st_mtime_ns)
        os.utime(used, (load.clock, load.clock))  # a second apart, whatever the disk resolves
        load.clock += 1
        return used.parent

    load.clock = 1_000_000_000
    kept = [load(seed) for seed in range(4)]
    assert load(0) == kept[0]  # used again, so the second is now the oldest
    kept.append(load(4))
    assert [entry.exists() for entry in kept] == [True, False, True, True, True]
    assert (mine / "notes.txt").read_text() == "mine" and (caches / "elsewhere" / "table.json").exists()


def test_training_goes_on_without_a_cache_that_cannot_be_used(photographs, tmp_path, capsys):
    def load(cache, folder=photographs):
        return Photographs(find_images([folder]), 3, (0.5, 1), 1, 32, torch.device("cpu"), cache=cache)

    (tmp_path / "file").write_text("not a folder")
    reference = load(None)
    assert torch.equal(load(tmp_path / "file").pixels, reference.pixels)
    assert f"not cached in {tmp_path / 'file'}" in capsys.readouterr().err
    caches = tmp_path / "cache"
    load(caches)
    (pixels,) = caches.glob("*/pixels.npy")
    for broken in (
        lambda: pixels.write_bytes(pixels.read_bytes()[:1000]),
        lambda: pixels.write_bytes(b""),
        pixels.unlink,
    ):
        broken()
        assert torch.equal(load(caches).pixels, reference.pixels)
    assert torch.equal(torch.from_numpy(np.load(pixels)), reference.pixels)
    assert [entry.name for entry in sorted(pixels.parent.iterdir())] == ["pixels.npy", "table.json"]


def test_crops_are_flips_and_turns_of_what_is_there(tmp_path):
    places = np.stack(np.broadcast_arrays(*np.ogrid[:60, :90], 7), axis=-1).astype(np.uint8)  # each pixel its place
    Image.fromarray(places).save(tmp_path / "places.png")
    data = Photographs(find_images([tmp_path]), 3, (1.0, 1.0), 1, 32, torch.device("cpu"))
    crops = (data.crops(64, 32, 1, torch.Generator().manual_seed(0)) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    forms_seen, corners = set(), set()
    for crop in crops:
        top, left = crop[..., 0].min(), crop[..., 1].min()
        there = places[top : top + 32, left : left + 32]
        forms = [np.rot90(form, turns) for form in (there, there[:, ::-1]) for turns in range(4)]
        matches = [index for index, form in enumerate(forms) if np.array_equal(form, crop)]
        assert len(matches) == 1
        forms_seen.update(matches)
        corners.add((int(top), int(left)))
    assert forms_seen == set(range(8)) and len(corners) > 50
    assert max(top for top, _ in corners) > 24 and max(left for _, left in corners) > 50


def test_crops_with_more_texture_are_preferred(photographs):
    data = Photographs(find_images([photographs])[1:4], 3, (1.0, 1.0), 1, 32, torch.device("cpu"))

    def texture(candidates):
        crops = data.crops(64, 32, candidates, torch.Generator().manual_seed(0))
        return float((crops[..., 1:] - crops[..., :-1]).abs().mean())

    assert texture(4) > texture(1) * 1.1


def test_chroma_subsampling_removes_fine_color_and_keeps_fine_brightness(tmp_path):
    squares = np.indices((96, 96)).sum(0) % 2
    colors = np.where(squares[..., None], np.uint8([168, 112, 112]), np.uint8([88, 144, 144]))  # nearly equal in luma
    for index in range(8):
        Image.fromarray(colors + np.uint8(squares * 20)[..., None]).save(tmp_path / f"{index}.png")

    def contrasts(share):
        """Of neighboring pixels, for each copy: in color (red - green) and brightness (luma)."""
        data = Photographs(find_images([tmp_path]), 3, (1.0, 1.0), 1, 32, torch.device("cpu"), chroma_subsampling=share)
        planes = data.pixels.view(-1, 96, 96, 3).float()
        color, luma = planes[..., 0] - planes[..., 1], planes @ torch.tensor([0.299, 0.587, 0.114])
        return [plane.diff(dim=2).abs().mean((1, 2)) for plane in (color, luma)]

    color, luma = contrasts(0.0)
    assert color.min() > 100 and luma.min() > 15
    color, luma = contrasts(1.0)
    assert color.max() < 10 and luma.min() > 15
    color, _ = contrasts(0.5)
    assert 0 < (color < 10).sum() < 8 and ((color < 10) | (color > 100)).all()
