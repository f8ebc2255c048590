import torch

from train.data.augment import flat_areas, permute_channels

CROPS = torch.rand(200, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def generator():
    return torch.Generator().manual_seed(0)


def test_channels_are_permuted_in_a_share_of_the_crops():
    shuffled = permute_channels(CROPS, 0.5, generator())
    changed = (shuffled != CROPS).flatten(1).any(1)
    assert 0.3 < changed.float().mean() < 0.55  # one in six orders changes nothing
    assert torch.equal(shuffled.sort(1).values, CROPS.sort(1).values)
    assert torch.equal(permute_channels(CROPS, 0, generator()), CROPS)
    assert torch.equal(shuffled, permute_channels(CROPS, 0.5, generator()))


def test_flat_areas_replace_a_share_of_the_crops_by_at_most_two_colors():
    result = flat_areas(CROPS, 0.3, generator())
    changed = (result != CROPS).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4 and torch.equal(result[~changed], CROPS[~changed])
    for crop in result[changed]:
        colors = crop.flatten(1).T.unique(dim=0)
        assert len(colors) <= 2 and colors.min() >= 0 and colors.max() <= 1
    saturated = ((result[changed] == 0) | (result[changed] == 1)).all(1).float().mean()
    assert saturated > 0.05
    assert torch.equal(flat_areas(CROPS, 0, generator()), CROPS)
