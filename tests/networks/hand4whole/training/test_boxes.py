"""Where a network itself would crop: the boxes of its whole forward pass, kept for the next start."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bhpe_compile.processes import python_command

pytest.importorskip("accelerate")

from bhpe_compile.distill.engine import processes
from bhpe_compile.distill.recipe import Recipe
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.hand4whole.training.boxes import find_boxes, locator
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, trace
from tests.command import ROOT, environment
from tests.distill.people import People

PEOPLE = People(33)  # more than one batch
RECIPE = Recipe(images=12, batch=4, micro_batch=4, precision="fp32")


def boxes_of(model: Hand4Whole, folder: Path, facts: Mapping[str, str], binary: bool) -> NDArray[np.float32]:
    network = trace(model, "predict")
    if binary:
        network, _ = binarize(network, BinarizeOptions())
    with processes(RECIPE) as accelerator:
        return find_boxes(network, model, PEOPLE, folder, facts, accelerator)


@pytest.mark.parametrize("binary", [False, True])
def test_they_are_those_of_the_whole_network(binary: bool, tmp_path: Path) -> None:
    model = initialise(Hand4Whole(TINY), 1).eval()
    boxes = boxes_of(model, tmp_path, {}, binary)
    whole = binarize(model, BinarizeOptions())[0].eval() if binary else model
    assert boxes.shape == (33, 3, 4)
    assert boxes.dtype == np.float32
    for index in (5, 32):
        image = torch.from_numpy(PEOPLE.image(index)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            outputs = whole(image)
        for k, name in enumerate(("lhand_bbox", "rhand_bbox", "face_bbox")):
            # batches of another size are summed in another order
            np.testing.assert_allclose(boxes[index, k], outputs[name][0], atol=0.05)


def test_they_are_kept_for_the_same_facts(tmp_path: Path) -> None:
    first, other = (initialise(Hand4Whole(TINY), seed) for seed in (1, 2))
    boxes = boxes_of(first, tmp_path, {"teacher": "1"}, False)
    assert np.array_equal(boxes_of(other, tmp_path, {"teacher": "1"}, False), boxes)  # it was not asked
    assert np.abs(boxes_of(other, tmp_path, {"teacher": "2"}, False) - boxes).max() > 1


@pytest.mark.parametrize("length", [0, 100])
def test_a_damaged_file_is_written_again(length: int, tmp_path: Path) -> None:
    model = initialise(Hand4Whole(TINY), 1)
    boxes = boxes_of(model, tmp_path, {}, False)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:length])
    assert np.array_equal(boxes_of(model, tmp_path, {}, False), boxes)
    assert kept.read_bytes() == whole


def test_the_network_is_left_as_it_was() -> None:
    """Looking needs neither crops nor the layers behind them; training goes on with the whole network."""
    network = trace(initialise(Hand4Whole(TINY), 1).train(), "predict")
    before = network.code
    looker = locator(network)
    assert not looker.training
    assert not any(name.startswith(("hand_", "face_")) for name, _ in looker.named_parameters())
    assert network.code == before
    assert network.training
    assert any(name.startswith("hand_") for name, _ in network.named_parameters())


SCRIPT = """
import sys
from pathlib import Path

import torch

from tests.networks.hand4whole.training.test_boxes import boxes_of
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.presets import TINY

torch.set_num_threads(1)
boxes_of(initialise(Hand4Whole(TINY), 1).eval(), Path(sys.argv[1]), {}, False)
"""


def test_processes_share_the_pictures(tmp_path: Path) -> None:
    """33 pictures do not divide by two: who is left over is looked at once and stands in his place."""
    (tmp_path / "script.py").write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        python_command(*launcher, tmp_path / "script.py", tmp_path),
        check=False,
        env=environment(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (kept,) = tmp_path.glob("boxes-*.npy")
    alone = boxes_of(initialise(Hand4Whole(TINY), 1).eval(), tmp_path / "alone", {}, False)
    # batches of another size are summed in another order
    np.testing.assert_allclose(np.load(kept), alone, atol=0.05)
