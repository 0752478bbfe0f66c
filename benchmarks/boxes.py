"""What a network's own boxes of hands and face cost: its meshes with crops there, and with crops where the labels say.

    python benchmarks/boxes.py MODEL.pt... [--count 1000] [--seed 0]

Every checkpoint gives two rows over the same people: as it is used, and with RoIAlign reading at the labels' boxes with
the network's own margins. The difference is what better boxes alone could gain; the IoU is the network's own in both.

Rows of other checkpoints stay in the file; `kept` says which, and on what people they were measured. A file of another
count or seed is not touched.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Progress
from torch import Tensor, fx, nn

from bhpe_compile.evaluate.data import SYNTH, open_people
from bhpe_compile.evaluate.dataset import Labels
from bhpe_compile.evaluate.evaluate import evaluate
from bhpe_compile.evaluate.people import Outputs
from bhpe_compile.evaluate.subjects import PUBLIC, Inputs, Subject, TorchSubject
from bhpe_compile.files import write_atomically
from bhpe_compile.frontends.checkpoint import load_model
from bhpe_compile.networks.hand4whole.presets import Preset, get_preset
from bhpe_compile.networks.hand4whole.training.targets import crop_boxes
from bhpe_compile.passes.binarize import trace
from bhpe_compile.search.layers.stages import binarized

HERE = Path(__file__).parent
FIGURES = ("mpvpe", "pa_mpvpe", "hands_mpvpe", "face_mpvpe", "hands_iou", "face_iou")
OWN, LABELS = "own boxes", "boxes of the labels"


class Given(nn.Module):
    """Boxes [N, 4] that somebody put here, instead of those that are passed in."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes = torch.empty(0, 4)

    def forward(self, found: Tensor) -> Tensor:
        return self.boxes


class AtLabels:
    """A network whose crops are taken at the labels' boxes; it is shown all people once, in their order."""

    def __init__(self, subject: TorchSubject, preset: Preset, labels: Callable[[int], Labels]) -> None:
        assert isinstance(subject.network, fx.GraphModule)
        self.name, self.executed, self.relative_hands = (
            f"{subject.name}, {LABELS}",
            "torch",
            subject.relative_hands,
        )
        self.interface = subject.interface
        self._preset, self._labels, self._shown = preset, labels, 0
        self._given = [Given(), Given(), Given()]
        graph = copy.deepcopy(subject.network)
        crops = graph.graph.find_nodes(op="call_function", target=torch.ops.bhpe.crop)
        for index, (node, given) in enumerate(
            zip(crops, self._given, strict=True)
        ):  # left hand, right hand, face
            graph.add_submodule(f"given_{index}", given)
            picture, found, *rest = node.args
            with graph.graph.inserting_before(node):
                node.args = (picture, graph.graph.call_module(f"given_{index}", (found,)), *rest)
        graph.recompile()
        self._subject = replace(subject, network=graph)

    def predict(self, inputs: Inputs) -> Outputs:
        """All pictures at once."""
        count = len(next(iter(inputs.values())))
        people = range(self._shown, self._shown + count)
        self._shown += count
        still = np.random.default_rng(0)
        boxes = [crop_boxes(self._labels(i).boxes, self._preset, None, still) for i in people]
        for index, given in enumerate(self._given):
            given.boxes = torch.from_numpy(np.stack(boxes)[:, index])
        return self._subject.predict(inputs)


def measure(models: Sequence[Path], count: int, seed: int) -> dict[str, Any]:
    """Figures by file, with the network's own boxes and with those of the labels."""
    tell = Progress()
    examples = open_people(SYNTH, count, seed, None, lambda _, done: tell("people", done))
    subjects: list[Subject] = []
    for path in models:
        loaded = load_model(path)
        if loaded.binarization is None:
            own = TorchSubject(
                f"{path.stem}, {OWN}", trace(loaded.model), loaded.interface, loaded.layout == PUBLIC
            )
        else:
            own = binarized(loaded, None, f"{path.stem}, {OWN}")
        subjects += [
            own,
            AtLabels(replace(own, name=path.stem), get_preset(loaded.preset), examples.dataset.labels),
        ]
    result = evaluate(subjects, examples, lambda done: tell("evaluated", done / count))
    rows = {row.name: {name: round(row.figures()[name], 3) for name in FIGURES} for row in result.rows}
    return {"test_images": count, "seed": seed, "data": vars(result.data).copy(), "rows": rows}


def earlier(output: Path, count: int, seed: int) -> dict[str, Any] | None:
    """The result that is there, or None. SystemExit where it is of other people."""
    if not output.exists():
        return None
    last: dict[str, Any] = json.loads(output.read_text())
    if (last["test_images"], last["seed"]) != (count, seed):
        raise SystemExit(
            f"{output} is of {last['test_images']} people, seed {last['seed']}: name another file with -o"
        )
    return last


def keep(found: dict[str, Any], last: dict[str, Any]) -> None:
    """Add to `found` the rows of `last` that it has not, each with the people it was measured on."""
    data = dict.fromkeys(last["rows"], last["data"]) | last.get("kept", {})
    names = [name for name in last["rows"] if name not in found["rows"]]
    found["rows"] |= {name: last["rows"][name] for name in names}
    found["kept"] = {name: data[name] for name in names}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "boxes.json")
    arguments = parser.parse_args()
    last = earlier(arguments.output, arguments.count, arguments.seed)
    found = measure(arguments.models, arguments.count, arguments.seed)
    if last is not None:
        keep(found, last)
    text = json.dumps(found, indent=1)
    print(text)
    write_atomically(arguments.output, f"{text}\n".encode())


if __name__ == "__main__":
    main()
