import pytest
import torch

from denoiser.models import Unet, UnetConfig
from train.config import Optimizer
from train.losses import LOSSES
from train.optim import Muon, build_optimizer, orthogonalize


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 8, 8), (2, 1, 5)])
def test_singular_values_come_near_one_and_the_vectors_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 7
    result = orthogonalize(matrices)
    assert result.shape == matrices.shape and result.dtype == torch.bfloat16
    result = result.float()
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    assert ((left @ right) * result).sum() / result.norm() / (left @ right).norm() > 0.97


def test_what_is_not_orthogonalized_moves_as_adamw_moves_it():
    torch.manual_seed(0)
    theirs = [torch.nn.Parameter(torch.randn(4, 3, 3, 3)) for _ in range(2)]
    ours = [torch.nn.Parameter(parameter.detach().clone()) for parameter in theirs]
    reference = torch.optim.AdamW(theirs, 1e-3, weight_decay=0.01)
    muon = Muon([{"params": ours, "orthogonal": False}], 1e-3, weight_decay=0.01)
    for _ in range(5):
        for a, b in zip(theirs, ours):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        reference.step()
        muon.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(theirs, ours))


def test_muon_takes_the_inner_convolutions_and_adamw_the_ends():
    model = Unet(UnetConfig(widths=(8, 12), blocks=(1, 1), bias=True))
    settings = Optimizer(kind="muon", rate=2e-3, ends_rate=5e-4, weight_decay=0.1)
    inner, rest = build_optimizer(model, settings).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert inner["orthogonal"] and all(parameter.ndim == 4 for parameter in inner["params"])
    outside = {names[id(parameter)] for parameter in rest["params"]}
    assert {"head.weight", "tail.weight"} <= outside and all(n.endswith("bias") or "." in n for n in outside)
    assert len(inner["params"]) + len(rest["params"]) == len(names)
    assert inner["weight_decay"] == 0.1 and rest["weight_decay"] == 0 and rest["scale"] == 0.25


def test_weights_stay_bounded_under_weight_decay():
    """Updates of constant size add up: without decay the weights of a long run grow without end."""
    torch.manual_seed(0)

    def norm_after(decay):
        parameter = torch.nn.Parameter(torch.zeros(8, 8, 3, 3))
        optimizer = Muon([{"params": [parameter]}], 0.05, weight_decay=decay)
        push = torch.randn_like(parameter)
        for _ in range(200):
            parameter.grad = push + 0.1 * torch.randn_like(parameter)
            optimizer.step()
        return float(parameter.detach().norm())

    assert norm_after(0.5) < 0.3 * norm_after(0)


def test_center_update_moves_a_kernel_as_a_parallel_pointwise_convolution_would():
    torch.manual_seed(0)
    kernel, point = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 1, 1)
    padded = torch.nn.functional.pad
    apart = [torch.nn.Parameter(kernel.clone()), torch.nn.Parameter(point.clone())]
    merged = torch.nn.Parameter(kernel + padded(point, (1, 1, 1, 1)))
    reference = Muon([{"params": apart}], 0.01, weight_decay=0.1)
    ours = Muon([{"params": [merged]}], 0.01, weight_decay=0.1, center_update=True)
    pictures = torch.randn(2, 4, 9, 9)
    for _ in range(6):
        for optimizer, weight in ((reference, apart[0] + padded(apart[1], (1, 1, 1, 1))), (ours, merged)):
            optimizer.zero_grad()
            torch.conv2d(pictures, weight).square().sum().backward()
            optimizer.step()
    together = apart[0] + padded(apart[1], (1, 1, 1, 1))
    assert torch.allclose(merged, together, atol=2e-3) and not torch.allclose(merged, kernel, atol=0.1)


def test_center_update_leaves_kernels_of_even_size_unchanged():
    moved = []
    for branches in (False, True):
        parameters = [torch.nn.Parameter(torch.ones(4, 4, size, size)) for size in (1, 2)]
        optimizer = Muon([{"params": parameters}], 0.01, center_update=branches)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
        optimizer.step()
        moved.append(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    assert torch.equal(*moved)


def test_the_log_loss_counts_every_noise_level_alike():
    clean = torch.zeros(2, 3, 8, 8)
    error = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.01)]).requires_grad_()
    LOSSES["log_mse"](error, clean).backward()
    loud, quiet = (error.grad * error.detach()).sum((1, 2, 3)).tolist()
    assert quiet == pytest.approx(loud, rel=0.15)
    assert torch.isfinite(LOSSES["log_mse"](clean, clean))
