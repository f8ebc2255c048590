import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from denoiser.self_supervised import OBJECTIVES, Neighbor2Neighbor, Noise2Noise, Noise2Void, Sure
from denoiser.self_supervised.neighbor2neighbor import neighbor_masks, subsample
from denoiser.self_supervised.noise2void import hide_pixels

SIGMA = 0.1


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mean_filter(noisy, level=None, side=3):
    """A linear network: its true error is known."""
    channels = noisy.shape[1]
    kernel = torch.full((channels, 1, side, side), 1 / side**2, dtype=noisy.dtype)
    return F.conv2d(F.pad(noisy, [side // 2] * 4, mode="reflect"), kernel, groups=channels)


@pytest.fixture(scope="module")
def scene():
    """A smooth clean picture, and a function that makes noisy shots of it."""
    random = torch.randn(1, 3, 20, 20, generator=generator(7))
    clean = F.interpolate(random, (160, 160), mode="bicubic", align_corners=False).sigmoid()

    def shoot(seed, sigma=SIGMA):
        return clean + sigma * torch.randn(clean.shape, generator=generator(seed))

    return clean, shoot


def level(batch=1, sigma=SIGMA):
    return torch.full((batch,), sigma)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_sub_pictures_hold_neighbors_of_each_cell_and_never_the_same_pixel(batch, channels, rows, columns, seed):
    size = (batch, channels, 2 * rows, 2 * columns)
    places = torch.stack(torch.meshgrid(torch.arange(2.0 * rows), torch.arange(2.0 * columns), indexing="ij"))
    picture = (places[0] * 100 + places[1]).expand(size)  # each pixel says where it is
    masks = neighbor_masks(picture, generator(seed))
    first, second = (subsample(picture, mask) for mask in masks)
    assert first.shape == (batch, channels, rows, columns)
    y, x = ((part // 100, part % 100) for part in (first, second))
    distance = (y[0] - x[0]).abs() + (y[1] - x[1]).abs()
    assert (distance == 1).all()  # side by side, so never the same
    cell = torch.arange(rows)[:, None].expand(rows, columns).float()
    assert (torch.div(first // 100, 2, rounding_mode="floor") == cell).all()


def test_every_pair_of_neighbors_is_drawn():
    masks = neighbor_masks(torch.zeros(1, 1, 200, 200), generator())
    pairs = set(zip(masks[0].flatten().tolist(), masks[1].flatten().tolist()))
    assert pairs == {(0, 1), (0, 2), (1, 0), (1, 3), (2, 0), (2, 3), (3, 1), (3, 2)}


@settings(deadline=None, max_examples=40)
@given(
    st.integers(8, 40),
    st.integers(8, 40),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.integers(2, 9),
    st.integers(1, 4),
    st.integers(0, 999),
)
def test_hidden_pixels_and_their_structure_get_values_from_elsewhere(height, width, structure, cell, window, seed):
    picture, cell = torch.arange(float(height * width)).view(1, 1, height, width), max(cell, 2 * max(structure) + 1)
    hidden, chosen = hide_pixels(picture, cell, structure, window, generator(seed))
    assert 1 <= chosen.sum() <= max(1, height // cell) * max(1, width // cell)
    for y, x in chosen[0, 0].nonzero().tolist():
        came_from = int(hidden[0, 0, y, x])
        if height > 2 * (structure[0] + window) and width > 2 * (structure[1] + window):
            away = abs(came_from // width - y) > structure[0] or abs(came_from % width - x) > structure[1]
            assert away  # nothing that shares its noise stands in for it
    reach = F.max_pool2d(
        F.pad(chosen.float(), (structure[1],) * 2 + (structure[0],) * 2),
        (2 * structure[0] + 1, 2 * structure[1] + 1),
        stride=1,
    ).bool()
    assert torch.equal(hidden[~reach], picture[~reach])  # the rest is as it was


def test_noise2void_ignores_what_the_network_does_to_pixels_that_were_not_hidden(scene):
    _, shoot = scene
    noisy = shoot(1)
    _, chosen = hide_pixels(noisy, Noise2Void().cell, (0, 0), 2, generator(3))
    expected = Noise2Void().error(mean_filter, noisy, level(), generator(3))

    def wrong_elsewhere(crops, levels):
        return torch.where(chosen, mean_filter(crops), torch.full_like(crops, 9.0))

    assert torch.equal(Noise2Void().error(wrong_elsewhere, noisy, level(), generator(3)), expected)


def test_noise2void_gives_the_identity_no_credit(scene):
    _, shoot = scene
    noisy = shoot(1)
    smoothed = Noise2Void().error(mean_filter, noisy, level(), generator(3))
    assert Noise2Void().error(lambda crops, _: crops, noisy, level(), generator(3)) > 1.5 * smoothed


@pytest.mark.parametrize("side", [1, 3, 7])
@pytest.mark.parametrize("objective", [Sure(), Noise2Noise()], ids=["sure", "noise2noise"])
def test_the_expected_error_is_that_against_the_clean_picture(scene, objective, side):
    clean, shoot = scene

    def network(crops, levels):
        return mean_filter(crops, side=side)

    estimates, errors = [], []
    for seed in range(60):
        noisy = shoot(seed)
        given = torch.cat([noisy, shoot(1000 + seed)], dim=1) if objective.shots == 2 else noisy
        estimates.append(float(objective.error(network, given, level(), generator(seed))))
        errors.append(float((network(noisy, None) - clean).square().mean()))
    difference = np.subtract(estimates, errors)
    assert abs(difference.mean()) < 4 * difference.std() / len(difference) ** 0.5 + 1e-7
    assert difference.std() < 0.1 * SIGMA**2


def test_sure_is_wrong_where_neighbors_share_their_noise(scene):
    clean, _ = scene
    noise = mean_filter(torch.randn(clean.shape, generator=generator(1)), side=3)
    noisy = clean + SIGMA * noise / noise.std()
    estimate = float(Sure().error(mean_filter, noisy, level(), generator()))
    truth = float((mean_filter(noisy) - clean).square().mean())
    assert estimate < truth / 2  # it thinks that the filter removes noise, which passes it


def test_neighbor2neighbor_prefers_the_better_filter(scene):
    _, shoot = scene
    noisy = shoot(1)
    errors = {
        side: float(
            Neighbor2Neighbor().error(lambda n, _, side=side: mean_filter(n, side=side), noisy, level(), generator(5))
        )
        for side in (1, 3)
    }
    assert errors[3] < 0.7 * errors[1]
    assert float(Neighbor2Neighbor().loss(mean_filter, noisy[..., :33, :31], level(), generator())) > 0  # odd sizes


@pytest.mark.parametrize("kind", sorted(OBJECTIVES))
def test_what_is_drawn_follows_the_generator_and_gradients_flow(kind, scene):
    _, shoot = scene
    objective = OBJECTIVES[kind]()
    noisy = torch.cat([shoot(seed) for seed in range(objective.shots)], dim=1)
    weight = torch.tensor(0.5, requires_grad=True)

    def network(crops, levels):
        assert len(levels) == len(crops)
        return weight * crops + (1 - weight) * mean_filter(crops)

    first, again, other = (objective.loss(network, noisy, level(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and (objective.shots == 2 or not torch.equal(first, other))
    first.backward()
    assert weight.grad > 0  # less of the identity, more of the filter


@pytest.mark.parametrize("kind", sorted(OBJECTIVES))
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 16, 16), (3, 17, 23), (1, 64, 40)])
def test_any_size_and_channel_count(kind, channels, height, width):
    objective = OBJECTIVES[kind]()
    noisy = torch.rand(2, channels * objective.shots, height, width)
    errors = objective.error(lambda crops, _: crops * 0.9, noisy, level(2), generator())
    assert errors.shape == (2,) and torch.isfinite(errors).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sure(sigma=0), "sigma must be above 0"),
        (lambda: Sure(gain=2), "with gain, give sigma too"),
        (lambda: Sure(sigma=3, gain=300), "gain must be from 0 to 255"),
        (lambda: Noise2Void(structure=(1,)), "structure must be two numbers"),
        (lambda: Noise2Void(cell=1), "cell must be from 2"),
        (lambda: Noise2Void(window=0), "window must be from 1"),
        (lambda: Neighbor2Neighbor(regularization=-1), "regularization must be from 0"),
    ],
)
def test_impossible_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", sorted(OBJECTIVES))
def test_each_method_states_its_source_and_its_assumption(kind):
    method = OBJECTIVES[kind]
    assert method.source in method.__doc__.replace("\n    ", " ") or "https://" in method.__doc__
    assert method.assumption.endswith(".") and "https://" in method.source


def test_the_losses_are_those_of_deepinv(scene):
    """deepinv is the reference; it is compared where it is installed: pip install deepinv."""
    try:
        import deepinv
    except Exception as error:  # torchvision built for another torch raises RuntimeError
        pytest.skip(f"deepinv cannot be imported: {error}")
    _, shoot = scene
    noisy, physics = shoot(1), deepinv.physics.Denoising()

    def model(crops, physics=None, **_):
        return mean_filter(crops)

    ours, theirs = [], []
    for seed in range(20):
        torch.manual_seed(seed)
        theirs.append(float(deepinv.loss.Neighbor2Neighbor(gamma=2.0)(noisy, physics, model)))
        ours.append(float(Neighbor2Neighbor(2.0).loss(mean_filter, noisy, level(), generator(seed))))
    assert np.mean(ours) == pytest.approx(np.mean(theirs), rel=0.01)
    theirs = [
        float(
            deepinv.loss.SureGaussianLoss(SIGMA)(y=noisy, x_net=mean_filter(noisy), physics=physics, model=model).mean()
        )
        for _ in range(20)
    ]
    ours = [float(Sure().error(mean_filter, noisy, level(), generator(seed))) for seed in range(20)]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=4 * np.std(theirs + ours) / 20**0.5)
