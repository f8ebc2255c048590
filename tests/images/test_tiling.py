import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from denoiser import Denoiser, pipeline
from denoiser.images.tiling import apply_tiled, computed_pixels, tiles

SIZES = {"height": st.integers(1, 90), "width": st.integers(1, 90)}


@given(**SIZES, size=st.integers(1, 40), margin=st.integers(0, 20), multiple=st.sampled_from([1, 2, 8]))
@settings(deadline=None)
def test_every_pixel_is_computed_exactly_once(height, width, size, margin, multiple):
    count = np.zeros((height, width), int)
    picture = np.arange(height * width).reshape(height, width)
    for outer, inner, target in tiles(height, width, size, margin, multiple):
        count[target] += 1
        assert outer[0].start % multiple == outer[1].start % multiple == 0
        assert np.array_equal(picture[outer][inner], picture[target])
    assert (count == 1).all()


@given(**SIZES, size=st.integers(8, 40))
@settings(deadline=None, max_examples=40)
def test_with_margin_enough_tiles_equal_the_whole(height, width, size):
    picture = np.random.default_rng(0).random((height, width, 3)).astype(np.float32)

    def blur(x):
        return uniform_filter(x, (7, 7, 1), mode="reflect")

    assert np.allclose(apply_tiled(blur, picture, size, 8, 8), blur(picture), atol=1e-5)


def test_progress_rises_to_one_and_can_stop_the_work():
    seen = []
    apply_tiled(lambda x: x, np.zeros((40, 40, 1), np.float32), 16, 4, 4, seen.append)
    assert seen == sorted(seen) and len(seen) == len(list(tiles(40, 40, 16, 4, 4))) > 3 and seen[-1] == 1

    def cancel(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_tiled(lambda x: x, np.zeros((40, 40, 1), np.float32), 16, 4, 4, cancel)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (100, 37), (33, 120), (1, 90), (90, 1)])
@pytest.mark.parametrize("margin", [4, 8, 24])
def test_in_place_is_the_same(height, width, margin):
    picture = np.random.default_rng(0).random((height, width, 2), dtype=np.float32)
    other = np.random.default_rng(1).random((height, width), dtype=np.float32)

    def blend(x, part):
        return uniform_filter(x, (5, 5, 1)) * part[..., None]

    expected = apply_tiled(blend, picture, 16, margin, 4, maps=[other])
    overwritten = picture.copy()
    assert apply_tiled(blend, overwritten, 16, margin, 4, maps=[other], in_place=True) is overwritten
    assert np.array_equal(overwritten, expected)


@pytest.fixture(scope="module")
def denoiser():
    return Denoiser.from_pretrained()


@pytest.mark.parametrize(("height", "width"), [(8, 60_000), (60_000, 8), (100, 10_000), (900, 3000), (1080, 1920)])
def test_a_thin_picture_costs_about_what_its_pixels_cost(denoiser, height, width):
    assert denoiser.computed_pixels(height, width) <= 1.2 * height * width


@given(height=st.integers(1, 400), width=st.integers(1, 400), margin=st.integers(0, 20))
@settings(deadline=None)
def test_no_grid_of_square_tiles_computes_fewer_pixels(height, width, margin):
    whole = [8 * -(-side // 8) for side in (height, width)]
    margins = [2 * 8 * -(-margin // 8) * (-(-side // 64) - 1) for side in whole]
    squares = (whole[0] + margins[0]) * (whole[1] + margins[1])
    assert computed_pixels(height, width, 64, margin, 8) <= squares


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
@settings(deadline=None)
def test_no_tile_is_larger_than_the_memory_allowed_for_and_the_estimate_is_what_is_computed(height, width):
    seen = []
    jobs = list(tiles(height, width, 64, 8, 8))
    for (rows, columns), _, _ in jobs:
        seen.append((-(-(rows.stop - rows.start) // 8) * 8) * (-(-(columns.stop - columns.start) // 8) * 8))
    assert max(seen) <= 80 * 80 and sum(seen) == computed_pixels(height, width, 64, 8, 8)


def test_a_thin_picture_is_the_same_tiled_and_whole(tiny_model, monkeypatch):
    strip = np.random.default_rng(0).integers(0, 256, (5, 3000, 3), np.uint8)
    whole = Denoiser(tiny_model)(strip, 25).astype(int)
    monkeypatch.setattr(pipeline, "TILE", 96)  # tiles of 5 x 6000 would be whole again
    tiled = Denoiser(tiny_model)(np.ascontiguousarray(strip[:, :]), 25).astype(int)
    assert computed_pixels(5, 3000, 96, pipeline.MARGIN, 8) > 0 and np.abs(whole - tiled).max() <= 1
