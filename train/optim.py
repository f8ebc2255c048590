"""Optimizers (AdamW, or Muon with AdamW for what is not a convolution), the learning rate, and averaged weights."""

import torch
from torch import nn
from torch.optim.adamw import adamw

ENDS = ("head.", "tail.")
"""A U-Net's first and last convolution, which AdamW trains better (Jordan). The ``bottleneck`` architecture has no
layers of these names: Muon trains all of its convolutions."""


def build_optimizer(model: nn.Module, settings) -> torch.optim.Optimizer:
    """The optimizer of a configuration (:class:`train.config.Optimizer`).

    Every parameter group has ``scale``: what its rate is multiplied by, so that one schedule serves them all.
    """
    if settings.kind == "adamw":
        groups = [{"params": list(model.parameters()), "orthogonal": False, "scale": 1.0}]
        return Muon(groups, settings.rate, weight_decay=settings.weight_decay)
    inner, rest = [], []
    for name, parameter in model.named_parameters():
        (inner if parameter.ndim == 4 and not name.startswith(ENDS) else rest).append(parameter)
    groups = [{"params": inner, "orthogonal": True, "scale": 1.0}] if inner else []
    scale = settings.ends_rate / settings.rate
    groups.append({"params": rest, "orthogonal": False, "scale": scale, "weight_decay": 0.0})
    return Muon(groups, settings.rate, weight_decay=settings.weight_decay, center_update=settings.center_update)


def learning_rate(settings, step: int, progress: float) -> float:
    """Warm-up, constant, decay (WSD).

    The constant phase can go on for as long as there is time, and a decay from any moment of it gives a checkpoint.
    The decay is 1 - sqrt, which Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", NeurIPS 2024, https://arxiv.org/abs/2405.18392, found the best.

    Args:
        settings: :class:`train.config.Optimizer`.
        step: Steps done.
        progress: Share of the budget that is used.
    """
    warm = min(1.0, (step + 1) / (settings.warmup + 1))
    decayed = min(1.0, max(0.0, (progress - (1 - settings.decay)) / settings.decay))
    return settings.rate * warm * (1 - decayed**0.5)


@torch.no_grad()
def update_ema(average, model, updates: int, decay: float) -> None:
    """Update the exponential moving average of the weights, ``average``, with those of ``model``.

    The decay grows with the number of ``updates`` up to ``decay``, so that the random start is soon forgotten.
    """
    kept = min(decay, (1 + updates) / (10 + updates)) if updates else 0.0
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - kept)


def orthogonalize(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Bring the singular values of (N, rows, columns) matrices near 1 and keep their singular vectors.

    A quintic Newton-Schulz iteration in bfloat16, the dtype of the result: the values end within about 0.7..1.2, which
    serves as well as 1.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    wide = (wide / (torch.linalg.vector_norm(wide, dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(steps):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.mT if tall else wide


def _update_scale(matrices: torch.Tensor) -> float:
    """The factor that gives an orthogonal matrix of this shape the root mean square of an AdamW update (about 0.2)."""
    return 0.2 * max(matrices.shape[1:]) ** 0.5


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized, so that every direction of a weight moves equally.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/. A convolution's weight (out, in, h, w) is taken as the matrix
    (out, in * h * w), a transposed one's (in, out, h, w) as (in, out * h * w). The update is brought to the size of
    AdamW's (Liu et al., "Muon is Scalable for LLM Training", 2025, https://arxiv.org/abs/2502.16982). Groups with
    ``orthogonal=False`` are updated as AdamW does (Loshchilov and Hutter, ICLR 2019).

    With ``center_update`` the middle of a kernel gets an orthogonal update of its own on top. That is what a parallel
    1x1 convolution, merged into the kernel for inference, would learn (re-parameterization: Ding et al., "RepVGG", CVPR
    2021, https://arxiv.org/abs/2101.03697), without computing one.

    Updates of constant size make weights grow without end unless they decay: without weight decay a run at a rate of
    2.5e-3 diverged from step 900 on, its largest singular values growing tenfold (EXPERIMENTS.md).
    """

    def __init__(self, groups, lr: float, momentum=0.95, betas=(0.9, 0.999), weight_decay=0.0, center_update=False):
        settings = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        super().__init__(groups, settings | {"orthogonal": True, "center_update": center_update})

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not group["orthogonal"]:
                self._adam(parameters, group)
                continue
            alike: dict[torch.Size, list[torch.Tensor]] = {}
            for parameter in parameters:
                alike.setdefault(parameter.shape, []).append(parameter)
            for same in alike.values():  # weights of one shape in one batched product
                self._orthogonal(same, group)

    def _orthogonal(self, parameters: list[torch.Tensor], group: dict) -> None:
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        gradients = [parameter.grad for parameter in parameters]
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            buffers.append(state["momentum"])
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        # Taken as (out, h, w, in), the order of channels_last weights in memory; the order of a matrix's columns
        # changes nothing.
        first = parameters[0].permute(0, 2, 3, 1)
        moved = torch.empty(len(parameters), *first.shape, dtype=first.dtype, device=first.device)
        for place, gradient, buffer in zip(moved.permute(0, 1, 4, 2, 3), gradients, buffers):
            torch.lerp(gradient, buffer, group["momentum"], out=place)
        matrices = moved.flatten(2)
        updates = orthogonalize(matrices).view(moved.shape)
        height, width = moved.shape[2:4]
        if group["center_update"] and height % 2 and width % 2 and height * width > 1:
            middle = moved[:, :, height // 2, width // 2]
            scale = _update_scale(middle) / _update_scale(matrices)
            updates[:, :, height // 2, width // 2].add_(orthogonalize(middle), alpha=scale)
        updates = updates.permute(0, 1, 4, 2, 3)
        updates = updates.float() * (-_update_scale(matrices) * group["lr"])  # the rate may be a tensor
        torch._foreach_add_(parameters, list(updates.unbind()))

    def _adam(self, parameters: list[torch.Tensor], group: dict) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] |= {
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )
