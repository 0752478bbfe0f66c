"""What boxes cost: crops are really taken at the labels' boxes, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bhpe_compile.evaluate.frame import network_inputs
from bhpe_compile.evaluate.subjects import TorchSubject
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.hand4whole.training.targets import crop_boxes
from bhpe_compile.networks.layers.rotations import rotation_6d_to_axis_angle
from bhpe_compile.passes.binarize import trace
from tests.distill.people import People

PEOPLE = People(5)


def test_a_network_that_is_told_where_to_crop() -> None:
    """In batches of 3 and 2, against the parts of the network called by hand on the same crops."""
    import boxes

    model = initialise(Hand4Whole(TINY), 1).eval()
    own = TorchSubject("own", trace(model), NETWORK.interface("tiny"))
    told = boxes.AtLabels(own, TINY, PEOPLE.labels)
    pictures = np.stack([PEOPLE.image(i) for i in range(5)])
    inputs = network_inputs(own.interface, pictures)
    images = inputs["image"]
    found = [told.predict({"image": images[:3]}), told.predict({"image": images[3:]})]
    outputs = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    still = np.random.default_rng(0)
    places = np.stack([crop_boxes(PEOPLE.labels(i).boxes, TINY, None, still) for i in range(5)])
    picture, at = torch.from_numpy(images), torch.from_numpy(places)
    with torch.no_grad():
        body = model.locate(picture[:, :, ::4, ::4])
        left, right = (model.hand_roi_net.crop(picture, at[:, k]) for k in range(2))
        face = model.face_roi_net.crop(picture, at[:, 2])
        wanted = model.recognise(body, torch.cat((left.flip(3), right)), face)
    # batches of another size are summed in another order
    near = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(outputs["smplx_expr"], wanted["expression"], **near)
    root = rotation_6d_to_axis_angle(wanted["root"]).numpy()
    np.testing.assert_allclose(outputs["smplx_root_pose"], root, **near)
    usual = own.predict(inputs)
    assert np.abs(usual["smplx_expr"] - outputs["smplx_expr"]).max() > 1e-3
    for name in ("lhand_bbox", "rhand_bbox", "face_bbox", "smplx_shape"):
        np.testing.assert_allclose(outputs[name], usual[name], rtol=1e-4, atol=1e-3)


def test_rows_of_other_networks_stay_with_their_people() -> None:
    import boxes

    first: dict[str, Any] = {
        "data": {"sha256": "1"},
        "rows": {"bnn": {"mpvpe": 3.0}, "bidrn": {"mpvpe": 2.0}},
    }
    second: dict[str, Any] = {"data": {"sha256": "2"}, "rows": {"bidrn": {"mpvpe": 1.0}}}
    third: dict[str, Any] = {"data": {"sha256": "3"}, "rows": {"model": {"mpvpe": 0.5}}}
    boxes.keep(second, first)
    assert second["rows"] == {"bidrn": {"mpvpe": 1.0}, "bnn": {"mpvpe": 3.0}}
    assert second["kept"] == {"bnn": {"sha256": "1"}}
    boxes.keep(third, second)
    assert third["kept"] == {"bidrn": {"sha256": "2"}, "bnn": {"sha256": "1"}}


def test_a_result_of_other_people_is_not_touched(tmp_path: Path) -> None:
    import boxes

    output = tmp_path / "boxes.json"
    assert boxes.earlier(output, 1000, 0) is None
    result = {"test_images": 1000, "seed": 0, "rows": {}}
    output.write_text(json.dumps(result))
    assert boxes.earlier(output, 1000, 0) == result
    for count, seed in ((20, 0), (1000, 1)):
        with pytest.raises(SystemExit, match="is of 1000 people, seed 0: name another file"):
            boxes.earlier(output, count, seed)
