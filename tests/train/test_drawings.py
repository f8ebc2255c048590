import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.config import Data, Stage
from train.data.drawings import KINDS, Draw, draw_crops, noise_gains
from train.data.mixture import NoiseMixture
from train.data.sampler import BatchSampler

CROPS = torch.rand(40, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(seed=st.integers(0, 2**31), side=st.sampled_from([16, 17, 33, 96]))
@settings(deadline=None, max_examples=40)
def test_drawings_are_pictures_of_the_size_that_was_asked_for_and_follow_the_seed(kind, seed, side):
    crop = torch.rand(3, side, side, generator=generator(seed))
    drawing, again = (kind(crop, Draw(generator(seed))) for _ in range(2))
    assert drawing.shape == crop.shape and torch.equal(drawing, again)
    assert drawing.isfinite().all() and drawing.min() >= 0 and drawing.max() <= 1


def test_no_two_drawings_are_alike():
    drawings = draw_crops(CROPS[:1].expand(40, -1, -1, -1), torch.ones(40, dtype=torch.bool), generator())
    assert len(drawings.flatten(1).unique(dim=0)) == 40


@pytest.mark.parametrize("channels", [3, 1])
def test_the_chosen_crops_are_replaced_and_no_others(channels):
    crops, chosen = CROPS[:, :channels], torch.arange(40) % 3 == 0
    drawn = draw_crops(crops, chosen, generator())
    assert drawn.shape == crops.shape and torch.equal(drawn[~chosen], crops[~chosen])
    assert all((drawn[chosen] != crops[chosen]).flatten(1).any(1))


class Pictures:
    """Forty crops, always the same."""

    pixels = torch.empty(0)

    def at(self, step):
        return self

    def crops(self, batch, patch, candidates, generator):
        return CROPS


def test_some_drawings_have_no_noise_and_the_others_up_to_six_times_the_noise():
    mixture = NoiseMixture(({"kind": "gaussian", "sigma": [5, 5]},))
    drawn, gains = [], []
    for step in range(10):
        sampler = BatchSampler(Pictures(), mixture, Data(drawings=0.5, grayscale=0), 3, 0, 1)
        clean, noisy, level = sampler[step, Stage(1.0, 24, 40)]
        assert torch.equal(level == 0, (clean == noisy).flatten(1).all(1))
        assert torch.allclose((noisy - clean).flatten(1).std(1), level, rtol=0.1)
        drawn.append((clean != CROPS).flatten(1).any(1))
        gains.append(level * 255 / 5)
    drawn, gains = torch.cat(drawn), torch.cat(gains)
    assert 0.4 < drawn.float().mean() < 0.6
    assert torch.allclose(gains[~drawn], torch.ones(()))
    noisy = gains[drawn] > 0
    assert 0.6 < noisy.float().mean() < 0.8
    assert 1 <= gains[drawn][noisy].min() < 1.4 and 5 < gains[drawn][noisy].max() < 6


def test_the_noise_of_drawings_has_a_highest_level():
    level = torch.tensor([0.0, 0.05, 0.2, 0.5]).repeat(50)
    gains = noise_gains(level, generator())
    assert (gains * level).max() == pytest.approx(0.25) and gains.isfinite().all()
