"""A made-up checkpoint of a network, in the layout of the published one, to try every command with.

Weights are drawn from a seed (convolutions as in arXiv 1502.01852, everything else as torch does); then one pass over
two embedded pictures measures what every batch norm will see, so that values stay of order one through any depth.
"""

from __future__ import annotations

import io
from importlib.resources import as_file, files

import torch
from torch import nn

from bhpe_compile.compiler.inputs import picture_inputs
from bhpe_compile.errors import UsageError
from bhpe_compile.frontends.checkpoint import model_bytes
from bhpe_compile.networks.choice import Choice

PICTURES = ("person.png", "drawn.jpg")


def made_up_checkpoint(choice: Choice, seed: int = 0) -> bytes | memoryview:
    """The bytes of a `.pt` file; the same ones for the same seed. A preset that nobody has published is written as
    `train` writes it.

    UsageError for a network that takes no picture.
    """
    network, preset = choice.network, choice.first
    if choice.interface(preset).picture is None:
        raise UsageError(f"{network.name} takes no picture, so there is nothing to begin it with")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network.build(preset)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
    _measure_norms(model, choice)
    layout = next((one for one in network.layouts if one.preset == preset), None)
    if layout is None:
        return model_bytes(model, choice.spec)
    state = {layout.prefix + name: value for name, value in model.state_dict().items()}
    content = {layout.wrappers[0]: state} if layout.wrappers else state
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def _measure_norms(model: nn.Module, choice: Choice) -> None:
    """Give every batch norm the statistics of the embedded pictures."""
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # running statistics = those of these pictures
    feeds = []
    for name in PICTURES:
        with as_file(files("bhpe_compile") / "data" / name) as path:
            feeds.append(picture_inputs(choice.interface(choice.first), path))
    with torch.no_grad():
        model(*(torch.cat([torch.from_numpy(one[port]) for one in feeds]) for port in feeds[0]))
