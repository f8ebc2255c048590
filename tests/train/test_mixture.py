import torch

from tests.train.conftest import MIXTURE
from train.data.mixture import NoiseMixture


def test_a_mixture_of_noises_is_drawn_crop_by_crop():
    clean = torch.full((400, 3, 16, 16), 0.5)
    noisy, level = NoiseMixture(tuple(MIXTURE))(clean, torch.Generator().manual_seed(0))
    measured = (noisy - clean).square().mean((1, 2, 3)).sqrt()
    gaussian = ~torch.isclose(level, measured, atol=1e-6)  # for other noises the level is what was measured
    assert 0.08 < gaussian.float().mean() < 0.22
    assert torch.allclose(level[gaussian], measured[gaussian], rtol=0.15)
    again, _ = NoiseMixture(tuple(MIXTURE))(clean, torch.Generator().manual_seed(0))
    assert torch.equal(noisy, again)
