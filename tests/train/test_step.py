from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from denoiser.models import Unet, UnetConfig
from train.config import Budget, Config, Optimizer, Stage
from train.step import TrainingStep

STAGES = Stage(0.5, patch=32, batch=4), Stage(1.0, patch=32, batch=4, loss="log_mse")


def weights_after_steps(kind: str, plain_steps: int, steps: int = 10) -> torch.Tensor:
    torch.manual_seed(0)
    config = Config(STAGES, Budget(steps=steps), optimizer=Optimizer(kind=kind, warmup=3), bfloat16=False, compile=True)
    model = Unet(UnetConfig(widths=(8, 16), blocks=(1, 2)))
    plan = SimpleNamespace(model=model, config=config, teacher=None, objective=None)
    step = TrainingStep(plan, Accelerator())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.step.PLAIN_STEPS", plain_steps)
        step.prepare()
        losses = []
        for number in range(steps):
            clean = torch.rand(4, 3, 32, 32, device="cuda").contiguous(memory_format=torch.channels_last)
            noisy, level = clean + 0.1 * torch.randn_like(clean), torch.full((4,), 0.1, device="cuda")
            losses.append(step((clean, noisy, level), STAGES[2 * number // steps], number, number / steps))
    assert len({float(loss) for loss in losses}) == steps
    return torch.cat([parameter.detach().flatten() for parameter in step.average.parameters()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captured steps need CUDA")
@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_a_captured_step_moves_the_weights_as_a_plain_one_does(kind):
    captured, plain = (weights_after_steps(kind, plain) for plain in (1, 100))
    start = weights_after_steps(kind, 100, steps=1)
    assert (captured - plain).norm() < 0.02 * (plain - start).norm()
