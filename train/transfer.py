"""The weights a run starts from: those of another network, which may be smaller than the one to be trained."""

from collections.abc import Iterator

import torch
from torch import nn

from denoiser.models import Bottleneck, Unet


def transfer_weights(model, source) -> None:
    """Start ``model`` from the weights of ``source``, a network of the same form or one that it can grow from.

    A blind U-Net may start from one that is given the noise level: the weights of the level's plane are left out.
    A U-Net for gray pictures may start from one for color: it computes the mean of what that computes for a picture
    with R = G = B.
    Between two U-Nets, levels are matched from the coarsest on and must be as wide; ``model`` may have

    - more blocks in a level: the new ones come last and pass on what they get (their second convolution starts at
      zero), so that the level computes what it did (Chen et al., "Net2Net", ICLR 2016,
      https://arxiv.org/abs/1511.05641);
    - fewer blocks in a level: the source's last ones are left out;
    - further finest levels, or another unshuffling: those, and the first and last convolution, start afresh.

    A bottleneck may start from one with fewer or more blocks: the new ones are identities, the last ones are left out.

    Raises:
        RuntimeError: The networks differ otherwise.
    """
    weights, own = source.state_dict(), model.state_dict()
    if isinstance(model, Unet) and isinstance(source, Unet) and model.config.channels < source.config.channels:
        weights |= _gray(source, weights)
    if model.config.blind and not source.config.blind and "head.weight" in weights:
        planes = own["head.weight"].shape[1]  # the level's are the last
        weights["head.weight"] = weights["head.weight"][:, :planes]
    if model.config.architecture != source.config.architecture:
        raise RuntimeError(f"a {model.config.architecture} cannot start from a {source.config.architecture}")
    if isinstance(model, Unet) and isinstance(source, Unet):
        weights = _grow(model, source, weights, own)
    if isinstance(model, Bottleneck) and model.config.bias == source.config.bias:
        weights = _deepen(model, source, weights)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # of torch, which lists tensors
        ours, theirs = (vars(network.config) for network in (model, source))
        names = [name for name in ours if ours[name] != theirs.get(name)]
        differing = ", ".join(f"{name} ({ours[name]} and {theirs.get(name)})" for name in names)
        raise RuntimeError(f"the network cannot start from these weights, as they differ in {differing}") from error


def _gray(source: Unet, weights: dict) -> dict:
    """The first and last convolution of ``source`` for one channel: all channels see it, their mean is its noise."""
    channels, pixels = source.config.channels, source.config.unshuffle**2
    head = weights["head.weight"].unflatten(1, (-1, pixels))  # features, planes, pixels, 3, 3
    color = head[:, :channels].sum(1, keepdim=True)
    gray = {"head.weight": torch.cat([color, head[:, channels:]], 1).flatten(1, 2)}
    for name in ("tail.weight", "tail.bias"):
        if name in weights:
            gray[name] = weights[name].unflatten(0, (channels, pixels)).mean(0)
    return gray


def _grow(model: Unet, source: Unet, weights: dict, own: dict) -> dict:
    """For U-Nets: ``weights`` of the source by the names they have in ``model``, filled up from ``own``."""
    wide, narrow = model.config.widths, source.config.widths
    new_levels = len(wide) - len(narrow)
    alike = model.config.channels <= source.config.channels and model.config.bias == source.config.bias
    if not alike or new_levels < 0 or wide[new_levels:] != narrow:
        ours, theirs = (
            f"widths {list(network.config.widths)}, {network.config.channels} channels, bias {network.config.bias}"
            for network in (model, source)
        )
        raise RuntimeError(
            f"a network of {ours} cannot start from one of {theirs}: "
            "only finer levels and the numbers of blocks may differ, and one of 3 channels may become one of 1"
        )
    # Modules by the names they have in the model, and what they are called in the source.
    renamed = {f"bottleneck.{i}": f"bottleneck.{i}" for i in range(source.config.blocks[-1])}
    for level, blocks in enumerate(source.config.blocks[:-1]):
        for half in ("encoder", "decoder"):
            for i in range(blocks):
                renamed[f"{half}.{level + new_levels}.{i}"] = f"{half}.{level}.{i}"
    for level in range(len(narrow) - 1):
        for step in ("down", "up"):
            renamed[f"{step}.{level + new_levels}"] = f"{step}.{level}"
    if not new_levels and model.config.unshuffle == source.config.unshuffle:
        renamed |= {"head": "head", "tail": "tail"}
    grown = {}
    for name, tensor in own.items():
        module, _, rest = name.partition(".conv") if ".conv" in name else name.rpartition(".")
        if module in renamed:
            grown[name] = weights[name.replace(module, renamed[module], 1)]
        else:
            levels = module.split(".")
            new_block = rest.startswith("2") and (levels[0] == "bottleneck" or int(levels[1]) >= new_levels)
            grown[name] = torch.zeros_like(tensor) if new_block else tensor
    return grown


def _deepen(model: Bottleneck, source: Bottleneck, weights: dict) -> dict:
    """For bottlenecks: ``weights`` of the source by the names they have in ``model``, and identities for new blocks."""
    known = {place: name for name, _, place in _convolutions(source)}
    grown = {}
    for name, layer, place in _convolutions(model):
        for part, own in layer.state_dict().items():
            if place in known:
                grown[f"{name}.{part}"] = weights[f"{known[place]}.{part}"]
            else:  # after a ReLU and before one, so that the identity stays one
                grown[f"{name}.{part}"] = nn.init.dirac_(own) if part == "weight" else torch.zeros_like(own)
    return grown


def _convolutions(network: Bottleneck) -> Iterator[tuple[str, nn.Module, tuple]]:
    """Name and layer of each convolution, and its place: the half, its level there, its number in the level."""
    for half in ("encoder", "decoder"):
        level = number = 0
        for name, layer in getattr(network, half).named_children():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                number += 1
                if layer.kernel_size != (3, 3):
                    level, number = level + 1, 0
                yield f"{half}.{name}", layer, (half, level, number)
