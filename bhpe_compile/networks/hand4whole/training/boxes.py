"""Where a network itself sees hands and face: what it crops in use, and should meet in training.

In the crops of labels a network never sees what an error of its BoxNet cuts out. A network is asked once for all
pictures, before training begins; processes share the pictures.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from bhpe_compile.distill.lesson import Looking
from bhpe_compile.distill.samples import Pictures
from bhpe_compile.files import write_atomically
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.reading import MalformedError
from bhpe_compile.reading_arrays import read_npy

if TYPE_CHECKING:
    from accelerate import Accelerator

BATCH = 32
BOXES = ("centres", "sizes")
"""The outputs of `Hand4Whole.predict` that boxes are made of."""

Boxes = NDArray[np.float32]


def find_boxes(
    network: fx.GraphModule,
    model: Hand4Whole,
    pictures: Pictures,
    folder: Path,
    facts: Mapping[str, Any],
    accelerator: Accelerator,
    looking: Looking = lambda _: None,
) -> Boxes:
    """Left hand, right hand and face as `network` sees them: [n, 3, 4] to crop; kept in `folder` for the next start.

    `network` is the traced `predict` of `model`, or its binary form, and is left alone. `facts` name it and the
    pictures; what was kept for others is not looked at, and a damaged file is written again.
    """
    kept = folder / f"boxes-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]}.npy"
    known = _read(kept)
    if known is not None and known.shape == (len(pictures), 3, 4):
        return known
    looker = locator(network).to(accelerator.device)
    world = accelerator.num_processes
    each = -(-len(pictures) // world)
    mine = [(i * world + accelerator.process_index) % len(pictures) for i in range(each)]
    step = model.preset.body_step
    found = []
    with torch.no_grad(), accelerator.autocast():
        for first in range(0, each, BATCH):
            looking(first / each)
            views = [
                pictures.image(i)[::step, ::step].transpose(2, 0, 1) for i in mine[first : first + BATCH]
            ]
            located = looker(
                torch.from_numpy(np.stack(views)).to(accelerator.device).float() / 255, None, None
            )
            found.append(model.boxes(*(located[name].float() for name in BOXES)))
    shares = accelerator.gather(torch.cat(found)).reshape(world, each, 3, 4)
    boxes: Boxes = shares.transpose(0, 1).reshape(-1, 3, 4)[: len(pictures)].cpu().numpy()
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, boxes)
        write_atomically(kept, buffer.getbuffer())
    return boxes


def _read(path: Path) -> Boxes | None:
    """Boxes that were kept, or None where there are none that can be read."""
    try:
        boxes: Boxes = read_npy(path)
    except (OSError, MalformedError):
        return None
    return boxes


def locator(network: fx.GraphModule) -> fx.GraphModule:
    """A copy of a traced `predict` in eval mode that computes the boxes only; crops are not looked at."""
    graph = copy.deepcopy(network)
    output = graph.graph.find_nodes(op="output")[0]
    (values,) = output.args
    assert isinstance(values, dict)
    output.args = ({name: values[name] for name in BOXES},)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph.eval()
