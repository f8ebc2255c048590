"""Fine-tune a denoiser on the very picture that it is to denoise, without a clean one.

The same methods as in training (:mod:`denoiser.self_supervised`), on one picture for about a minute: worth it where the
subject is not what the checkpoint was trained on. A network's millions of weights would learn the noise of one picture
by heart; what is tuned is one gain for each channel of its convolutions. What counts is the method's own measure, of
gains that are averaged over the steps, on a part of the picture that no step sees; those that score best are kept, or
the network as it was. SURE has to find the gain certain: on small tiles of that part, for levels that are a little off.

Source: Mohan et al., "Adaptive Denoising via GainTuning", NeurIPS 2021, https://arxiv.org/abs/2107.12815; the loss:
Soltanayev and Chun, "Training deep learning based denoisers without ground truth data", NeurIPS 2018, 4.3.
"""

import copy
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .analysis.noise_correlation import SHARED, neighbor_correlation
from .analysis.noise_model import PoissonGaussian
from .analysis.signal_dependence import estimate_noise
from .images.picture import ImageLike, read
from .models import DenoisingAutoencoder
from .network_input import NetworkInput, sigma_without_map
from .pipeline import Denoiser
from .self_supervised import IMPOSSIBLE, Network, Objective, Sure, score

PATCH, BATCH = 96, 2
RATE, WARMUP = 1e-2, 10
AVERAGE = 0.9
"""Decay of the gains' exponential moving average."""
CHECKS, PATIENCE = 12, 5
"""How often the weights are scored, and after how many scores without a better one it stops."""
SCORED = 384
"""Longest side of the part of the picture that is scored, pixels."""
MIN_GAIN = 0.1
"""Decibels by which the score must rise for weights to be kept: less is the score's own uncertainty."""
HELD_OUT = 0.25
"""Share of the picture, a band in its middle, that is scored and not trained on: what has seen the noise of a part
scores too well there."""
MIN_SIDE, MIN_LENGTH = 32, 96
"""Shorter and longer side, pixels, of the smallest picture that is adapted to."""
LEVEL_ERROR = 0.02
"""How far an estimated noise level may be off: SURE must find the gain at levels that much lower and higher, too."""
TILE, CERTAIN = 32, 2.0
"""Side of the tiles of what is scored, pixels, and how many standard errors over the tiles a gain must be above 0."""
MAX_CLIPPED = 0.1
"""Share of black and white values up to which SURE is used: of noise that is cut off the level is estimated too low."""


@dataclass(frozen=True)
class Adaptation:
    """What :func:`adapt` did.

    Attributes:
        denoiser: With the weights that score best.
        method: The method's name, for people.
        before: Score of the weights that it started from, dB: 10 log10(1 / error) by the method's own measure.
        after: That of the weights that are kept; never below ``before``.
        steps: How many were taken.
        seconds: How long they took.
        note: Why nothing was done; "" if something was.
    """

    denoiser: Denoiser
    method: str
    before: float
    after: float
    steps: int
    seconds: float
    note: str = ""

    def __str__(self) -> str:
        if self.note:
            return f"not adapted: {self.note}"
        gain = self.after - self.before
        took = f"in {self.steps} steps, {self.seconds:.0f} s"
        if not gain:
            return f"gained nothing {took} ({self.before:.2f} dB by {self.method}'s measure): it stays as it was"
        return f"adapted {took}; by {self.method}'s own measure: {self.before:.2f} -> {self.after:.2f} dB"


def adapt(
    denoiser: Denoiser,
    image: ImageLike,
    seconds: float = 60,
    sigma: float | PoissonGaussian | None = None,
    objective: Objective | None = None,
    max_steps: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> Adaptation:
    """Fine-tune a copy of a denoiser on a noisy picture; the denoiser itself stays as it is.

    Args:
        denoiser: What to start from.
        image: The noisy picture.
        seconds: How long it may take. It stops earlier if the score no longer rises.
        sigma: The noise level in 8-bit units, or the model of the noise, if it is known; for blind checkpoints it is
            always estimated.
        objective: The method, by default :class:`Sure`. If it needs noise that is independent between pixels, and that
            of the picture is not, nothing is done, and ``note`` says so.
        max_steps: Stop after so many steps.
        progress: Called with the share of the time that has passed.

    Raises:
        ImageUnreadable, ImageTooLarge: See :class:`Denoiser`.
        ValueError: ``seconds`` is not positive and finite, ``sigma`` is out of range, or ``objective`` needs several
            shots.
    """
    if not 0 < seconds < float("inf"):  # the weights are scored at shares of them
        raise ValueError(f"seconds must be positive and finite, got {seconds:g}")
    model, blind = copy.deepcopy(denoiser.model), denoiser.model.config.blind
    objective = objective or Sure()
    if objective.shots > 1:
        raise ValueError(f"{objective.label} needs several shots of a scene, and this is one picture")
    picture = read(image)
    known = sigma_without_map(sigma, *picture.pixels.shape[:2])
    noise = estimate_noise(picture) if known is None or blind else known  # in use a blind one has it estimated, too
    given = NetworkInput(picture, noise)

    def unchanged(note: str) -> Adaptation:
        return Adaptation(denoiser, objective.label, 0.0, 0.0, 0, 0.0, note)

    sides = picture.pixels.shape[:2]
    if min(sides) < MIN_SIDE or max(sides) < MIN_LENGTH:
        return unchanged("the picture is too small to learn from")
    correlation = neighbor_correlation(picture.pixels)
    shared = correlation > SHARED  # then it may be taken for texture, and its level for 0
    if not given.level and not (shared and (blind or objective.needs_independent_pixels)):
        return unchanged("no noise was found")
    clipped = float(((picture.pixels == 0) | (picture.pixels == 1)).mean())
    if isinstance(objective, Sure) and clipped > MAX_CLIPPED:
        return unchanged(f"its noise is cut off at black or white ({clipped:.0%} of the values), which misleads SURE")
    if objective.needs_independent_pixels and shared:
        doubt = "" if given.level else "no noise was found, or "
        return unchanged(
            f"{doubt}neighboring pixels share their noise (correlation {correlation:.2f}), which {objective.label} "
            "would keep"
        )
    noisy = torch.from_numpy(given.stabilize(given.pixels).copy()).permute(2, 0, 1)[None].to(denoiser.device)
    level = torch.tensor([given.level], dtype=torch.float32, device=denoiser.device)
    factors = (1 - LEVEL_ERROR, 1.0, 1 + LEVEL_ERROR) if sigma is None or blind else (1.0,)
    factors = factors if isinstance(objective, Sure) else ()  # the others count all noise of a pixel as error
    return _fine_tune(denoiser, model, noisy, level, objective, seconds, max_steps, progress, factors)


def _fine_tune(
    denoiser: Denoiser,
    model: DenoisingAutoencoder,
    noisy: torch.Tensor,
    level: torch.Tensor,
    objective: Objective,
    seconds: float,
    max_steps: int | None,
    progress: Callable[[float], object] | None,
    factors: tuple[float, ...],
) -> Adaptation:
    """Steps on random crops of ``noisy`` (1, C, H, W), until the time is over or the score has stopped rising."""
    noisy, parts = _hold_out(noisy)
    started = time.monotonic()
    kernels = {name: tensor for name, tensor in model.named_parameters() if tensor.ndim == 4}
    gains = [torch.ones_like(kernel[:, :1, :1, :1]).requires_grad_() for kernel in kernels.values()]
    average = [gain.detach().clone() for gain in gains]

    def network(factors: list[torch.Tensor]) -> Network:
        scaled = {name: kernel * gain for (name, kernel), gain in zip(kernels.items(), factors)}
        return _as_network(model, scaled)

    optimizer = torch.optim.Adam(gains, RATE / WARMUP)
    generator = torch.Generator(noisy.device).manual_seed(0)
    before = best = _score(objective, network(average), noisy, level)
    if before == IMPOSSIBLE:
        note = f"{objective.label} measures no error at all: the noise is weaker than it was told"
        return Adaptation(denoiser, objective.label, 0.0, 0.0, 0, 0.0, note)
    kept, steps, stale, checked = average, 0, 0, 0
    while stale < PATIENCE and (max_steps is None or steps < max_steps):
        loss = objective.loss(network(gains), _crops(parts, generator), level.expand(BATCH), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        steps += 1
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (steps + 1) / WARMUP)
        share = 1 - min(AVERAGE, steps / (steps + 9))
        average = [torch.lerp(mean, gain.detach(), share) for mean, gain in zip(average, gains)]
        done = max((time.monotonic() - started) / seconds, steps / max_steps if max_steps else 0.0)
        if progress:
            progress(min(1.0, done))
        if done * CHECKS >= checked + 1:
            checked, now = int(done * CHECKS), _score(objective, network(average), noisy, level)
            stale = 0 if now > best else stale + 1
            if now > best:
                best, kept = now, average
        if done >= 1:
            break
    pair = network([torch.ones_like(gain) for gain in kept]), network(kept)
    certain = functools.partial(_is_certain, objective, pair, noisy, level)
    if best == IMPOSSIBLE or (best >= before + MIN_GAIN and not all(map(certain, factors))):
        best = before
    if best < before + MIN_GAIN:
        return Adaptation(denoiser, objective.label, before, before, steps, time.monotonic() - started)
    with torch.no_grad():
        for kernel, gain in zip(kernels.values(), kept):
            kernel.mul_(gain)
    adapted = Denoiser(
        model,
        denoiser.device,
        denoiser.dtype,
        denoiser.self_ensemble,
        denoiser.name,
        denoiser.revision,
        folder=denoiser.folder,  # whose license holds for what is made of its weights
    )
    return Adaptation(adapted, objective.label, before, best, steps, time.monotonic() - started)


def _as_network(model: DenoisingAutoencoder, weights: dict[str, torch.Tensor]) -> Network:
    """The network with other ``weights``, for pictures of any channel count, as :class:`Denoiser` applies it."""
    channels, blind = model.config.channels, model.config.blind

    def apply(noisy: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, weights, (noisy, None if blind else level))

    def network(noisy: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        if noisy.shape[1] == channels:
            return apply(noisy, level)
        if channels == 3:  # gray: three equal planes
            return apply(noisy.expand(-1, 3, -1, -1), level).mean(1, keepdim=True)
        return apply(noisy.flatten(0, 1)[:, None], level.repeat_interleave(noisy.shape[1])).view_as(noisy)

    return network


def _hold_out(noisy: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The middle of a band across a picture (1, C, H, W), which is scored, and what lies on both sides of the band."""
    longer = 2 if noisy.shape[2] > noisy.shape[3] else 3
    length = noisy.shape[longer]
    band = max(MIN_SIDE, round(HELD_OUT * length))
    start = (length - band) // 2
    scored = noisy.narrow(longer, start, band)
    top, left = (max(0, (side - SCORED) // 2) for side in scored.shape[2:])
    parts = [noisy.narrow(longer, first, start) for first in (0, length - start)]
    return scored[..., top : top + SCORED, left : left + SCORED], parts


def _crops(parts: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    """Random crops of pictures (1, C, H, W) of one size."""
    height, width = parts[0].shape[2:]
    sides = min(PATCH, height), min(PATCH, width)

    def draw(high: int) -> list[int]:
        return torch.randint(high, (BATCH,), generator=generator, device=parts[0].device).tolist()

    places = zip(draw(len(parts)), draw(height - sides[0] + 1), draw(width - sides[1] + 1))
    return torch.cat([parts[part][..., y : y + sides[0], x : x + sides[1]] for part, y, x in places])


@torch.no_grad()
def _score(objective: Objective, network: Network, noisy: torch.Tensor, level: torch.Tensor) -> float:
    """10 log10(1 / error), dB; what is drawn is always the same."""
    generator = torch.Generator(noisy.device).manual_seed(1)
    return score(float(objective.error(network, noisy, level, generator)))


@torch.no_grad()
def _is_certain(
    objective: Objective, networks: tuple[Network, Network], noisy: torch.Tensor, level: torch.Tensor, factor: float
) -> bool:
    """Whether the second of two networks has the smaller error in the tiles of a picture, beyond chance.

    The noise is taken as ``factor`` times the ``level`` that the networks are told.
    """
    tiles = F.unfold(noisy, TILE, stride=TILE)  # (1, C * TILE * TILE, count)
    tiles = tiles[0].T.reshape(-1, noisy.shape[1], TILE, TILE)
    errors = []
    for network in networks:
        generator = torch.Generator(noisy.device).manual_seed(1)
        errors.append(
            objective.error(
                lambda noisy, level, network=network: network(noisy, level / factor),
                tiles,
                factor * level.expand(len(tiles)),
                generator,
            )
        )
    gains = errors[0] - errors[1]
    return len(gains) > 1 and bool(gains.mean() > CERTAIN * gains.std() / len(gains) ** 0.5)
