"""Evaluation: a subject that knows the truth has no error, and every row is what its parts are worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.dataset import unknown_labels
from bhpe_compile.evaluate.evaluate import Evaluation, Examples, evaluate, open_body, score_all
from bhpe_compile.evaluate.metrics import METRICS, measure
from bhpe_compile.evaluate.people import PARTS, Bodies, Outputs, scale_boxes, square_boxes
from bhpe_compile.evaluate.subjects import ConstantSubject, Inputs, TorchSubject
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.interface import Interface
from tests.evaluate.made_up import MadeUpSet, write_body

INTERFACE = NETWORK.interface("tiny")

FLOAT32 = 1e-3
"""Millimetres: meshes are computed in float32, whose last bit is 0.1 micrometres at one metre."""


@dataclass
class Oracle:
    """Reads the answer from the labels, and may be off: `shift` radians on the root, `hand` on every finger."""

    data: MadeUpSet
    shift: float = 0.0
    hand: float = 0.0
    name: str = "oracle"
    executed: str = "test"
    relative_hands: bool = False
    seen: int = 0

    @property
    def interface(self) -> Interface:
        return INTERFACE

    def predict(self, inputs: Inputs) -> Outputs:
        images = inputs["image"]
        people = [self.data.labels(self.seen + i) for i in range(len(images))]
        for i in range(len(images)):
            expected = self.data.image(self.seen + i).transpose(2, 0, 1) / np.float32(255)
            np.testing.assert_array_equal(images[i], expected)
        self.seen += len(images)
        pose = np.stack([one.pose for one in people])
        pose[:, 0] += self.shift
        pose[:, 25:] += self.hand
        parts = [pose[:, 0], pose[:, 1:22], pose[:, 22], pose[:, 25:40], pose[:, 40:]]
        values = [part.reshape(len(images), -1) for part in parts]
        values += [np.stack([one.betas for one in people]), np.stack([one.expression for one in people])]
        assert INTERFACE.body is not None
        outputs = dict(zip(INTERFACE.body.names, values, strict=True))
        boxes = square_boxes(np.stack([one.boxes for one in people]))
        for one in INTERFACE.outputs:
            if one.kind == "boxes":
                outputs[one.name] = scale_boxes(boxes[:, PARTS.index(one.part)], one.margin)
        return outputs


class StillEyes(MadeUpSet):
    """No network predicts eyes: they look ahead."""

    def labels(self, index: int):  # type: ignore[no-untyped-def]
        one = super().labels(index)
        one.pose[23:25] = 0
        return one


@pytest.fixture(scope="module")
def bodies(body_file: Path) -> Bodies:
    return open_body(body_file)


def run(data: MadeUpSet, bodies: Bodies, *subjects: object, batch: int = 2) -> Evaluation:
    return evaluate(list(subjects), Examples(data, bodies, len(data), batch))  # type: ignore[arg-type]


def test_who_knows_the_truth_makes_no_error(bodies: Bodies) -> None:
    data = StillEyes(5)
    figures = run(data, bodies, Oracle(data)).rows[0].figures()
    assert set(figures) == set(METRICS)
    for name, metric in METRICS.items():
        expected = 0.0 if metric.unit else 1.0
        assert figures[name] == pytest.approx(expected, abs=FLOAT32), name


def test_a_wrong_root_is_an_error_that_procrustes_forgives(bodies: Bodies) -> None:
    data = StillEyes(5)
    figures = run(data, bodies, Oracle(data, shift=0.2)).rows[0].figures()
    assert figures["mpvpe"] > 10
    assert figures["mpjpe"] > 10
    for name in METRICS:
        if "pa_" in name:
            assert figures[name] == pytest.approx(0, abs=FLOAT32), name


def test_wrong_fingers_are_an_error_of_hands_only(bodies: Bodies) -> None:
    data = StillEyes(5)
    figures = run(data, bodies, Oracle(data, hand=0.3)).rows[0].figures()
    assert figures["hands_mpvpe"] > 1
    assert figures["hands_pa_mpjpe"] > 1
    for name in ("face_mpvpe", "face_pa_mpvpe"):
        # every vertex of the made-up body follows every joint a little (0.2 %)
        assert figures[name] < 0.1 * figures["hands_mpvpe"], name


def test_published_networks_count_fingers_from_the_mean_hand(tmp_path: Path) -> None:
    bodies = open_body(write_body(tmp_path / "body.npz", hands_mean=0.3))
    data = StillEyes(3)
    off = Oracle(data, hand=-0.3)
    assert run(data, bodies, off).rows[0].figures()["hands_mpvpe"] > 1
    right = Oracle(data, hand=-0.3, relative_hands=True)
    assert run(data, bodies, right).rows[0].figures()["hands_mpvpe"] == pytest.approx(0, abs=FLOAT32)


def test_batches_do_not_change_a_figure(bodies: Bodies) -> None:
    data = StillEyes(5)
    one, two = (run(data, bodies, Oracle(data, 0.1, 0.1), batch=size) for size in (1, 4))
    assert one.data == two.data
    for name in METRICS:
        np.testing.assert_allclose(one.rows[0].errors[name], two.rows[0].errors[name], atol=FLOAT32)


def test_rows_keep_their_order_and_people(bodies: Bodies) -> None:
    data = StillEyes(4)
    heard: list[int] = []
    subjects = [Oracle(data, name="right"), Oracle(data, shift=0.1, name="wrong")]
    result = evaluate(subjects, Examples(data, bodies, 3, 2), heard.append)
    assert [row.name for row in result.rows] == ["right", "wrong"]
    assert heard == [2, 3]
    assert all(len(values) == 3 for row in result.rows for values in row.errors.values())
    assert result.row("wrong").figures()["mpvpe"] > result.row("right").figures()["mpvpe"]
    document = result.to_json(seed=1)
    low, high = document["rows"]["wrong"]["interval"]["mpvpe"]
    assert low <= document["rows"]["wrong"]["figures"]["mpvpe"] <= high


def test_data_are_named_by_what_they_hold(bodies: Bodies) -> None:
    def name(data: MadeUpSet, count: int = 3) -> str:
        return evaluate([], Examples(data, bodies, count)).data.sha256

    assert name(StillEyes(3)) == name(StillEyes(4))  # the same three people
    assert (
        len({name(StillEyes(3)), name(StillEyes(3), 2), name(StillEyes(3, seed=1)), name(MadeUpSet(3))}) == 4
    )


def test_more_people_than_there_are(bodies: Bodies) -> None:
    with pytest.raises(UsageError, match="made up: holds 3 people, --count asks for 4"):
        Examples(MadeUpSet(3), bodies, 4)


def test_a_mesh_is_ground_truth_enough(bodies: Bodies) -> None:
    """Joints come from the mesh: moving it as a whole changes nothing, another mesh does."""
    data = StillEyes(2)
    labels = [data.labels(i) for i in range(2)]
    true = bodies.labelled(labels)
    moved = [mesh + np.float32(0.5) for mesh in true.vertices]
    same = measure(bodies.labelled(labels, moved), true, bodies.regions)
    assert same["mpvpe"] == pytest.approx(0, abs=FLOAT32)
    other = bodies.labelled(labels, [None, true.vertices[0]])
    errors = measure(other, true, bodies.regions)["mpvpe"]
    assert errors[0] == 0
    assert errors[1] > 10


def test_a_mesh_of_another_body_is_refused(bodies: Bodies) -> None:
    with pytest.raises(InputError, match=r"meshes have 7 vertices, the body .*body.npz has 220"):
        bodies.labelled([MadeUpSet(1).labels(0)], [np.zeros((7, 3), np.float32)])


def test_a_constant_pose_has_every_metric_but_boxes(bodies: Bodies) -> None:
    data = StillEyes(3)
    one = data.labels(1)
    subject = ConstantSubject("mean pose", one.pose, one.betas, one.expression)
    row = run(data, bodies, subject).rows[0]
    assert row.errors["mpvpe"][1] == pytest.approx(0, abs=FLOAT32)
    assert row.errors["mpvpe"][0] > 10
    assert set(METRICS) - set(row.figures()) == {"hands_iou", "face_iou"}


@pytest.fixture(scope="module")
def network() -> Hand4Whole:
    return initialise(Hand4Whole(TINY), 1)


def test_a_network_is_evaluated_as_it_stands(bodies: Bodies, network: Hand4Whole) -> None:
    data = StillEyes(3)
    network.train()  # statistics of the batch would make figures depend on its size
    one, two = (
        run(data, bodies, TorchSubject("net", network, INTERFACE), batch=size).rows[0] for size in (1, 3)
    )
    assert set(one.figures()) == set(METRICS)
    for name in METRICS:
        # sums of convolutions over another batch are taken in another order
        np.testing.assert_allclose(one.errors[name], two.errors[name], rtol=1e-3, atol=0.05)
    assert not network.training


def test_a_broken_network_is_one_line(bodies: Bodies, network: Hand4Whole) -> None:
    broken = initialise(Hand4Whole(TINY), 1)
    broken.body_rotation_net.shape_out[0].bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match="smplx_shape with values that are no numbers"):
        run(StillEyes(1), bodies, TorchSubject("net", broken, INTERFACE))


def test_batches_kept_in_memory_give_the_same(bodies: Bodies) -> None:
    data = StillEyes(3)
    kept = list(Examples(data, bodies, 3, 2))
    errors = score_all(Oracle(data, 0.1), kept, bodies)
    np.testing.assert_array_equal(
        errors["mpvpe"], run(data, bodies, Oracle(data, 0.1)).rows[0].errors["mpvpe"]
    )


def test_boxes_grow_to_squares_about_their_centres() -> None:
    box = np.array([10.0, 20.0, 30.0, 80.0])
    np.testing.assert_array_equal(square_boxes(box), [-10, 20, 50, 80])
    np.testing.assert_array_equal(scale_boxes(box, 0.5), [15, 35, 25, 65])


def test_labels_without_pose_need_a_mesh(bodies: Bodies) -> None:
    data = StillEyes(2)
    known = [data.labels(i) for i in range(2)]
    true = bodies.labelled(known)
    nothing = unknown_labels()
    mixed = bodies.labelled([known[0], nothing], [None, true.vertices[1]])
    errors = measure(mixed, true, bodies.regions)
    assert errors["pa_mpvpe"] == pytest.approx(0, abs=FLOAT32)
    assert np.isnan(errors["face_iou"][1])
    assert errors["face_iou"][0] == pytest.approx(1)
    with pytest.raises(InputError, match="neither a mesh nor a whole pose"):
        bodies.labelled([known[0], nothing])
