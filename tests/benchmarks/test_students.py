"""What the benchmark of students compares: means are rotations again, and a student that is not near enough is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from bhpe_compile.evaluate.body import axis_angle_to_matrix
from bhpe_compile.frontends.checkpoint import load_model, save_model
from bhpe_compile.networks.registry import get_network
from bhpe_compile.passes.binarize import BinarizeOptions, binarize, trace
from tests.distill.people import People


def test_the_mean_of_rotations_is_one() -> None:
    from students import mean_of

    vectors = torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.4
    said = [
        {"turn": axis_angle_to_matrix(one), "betas": torch.ones(1, 2) * i} for i, one in enumerate(vectors)
    ]
    mean = mean_of(said)
    torch.testing.assert_close(mean["betas"], torch.full((1, 2), 9.5))
    turn = mean["turn"]
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(1, 3, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.det(turn), torch.ones(1, 3), atol=1e-5, rtol=0)
    (plain,) = mean_of([said[3]])["turn"]
    torch.testing.assert_close(plain, said[3]["turn"][0], atol=1e-5, rtol=0)


def test_who_answers_is_measured(tmp_path: Path) -> None:
    """A student that is the teacher's own binary form is where the untrained one is: too far."""
    from students import measure, table, too_far

    torch.manual_seed(0)
    model = get_network("cliff-r50").build("tiny")
    save_model(tmp_path / "teacher.pt", model, "cliff-r50:tiny")
    binary, _ = binarize(trace(model), BinarizeOptions())
    save_model(tmp_path / "student.pt", binary, "cliff-r50:tiny", BinarizeOptions().to_dict())
    teacher = load_model(tmp_path / "teacher.pt")
    found = measure(teacher, tmp_path / "student.pt", tmp_path / "teacher.pt", People(3), 3)
    assert found["to_teacher"]["untrained"] == found["to_teacher"]["distilled"]
    kinds = ["rotations", "camera", "coefficients"]
    assert list(found["to_labels"]["teacher"]) == list(too_far(found)) == kinds
    assert all(one["pictures"] == 3 for one in found["to_teacher"]["mean"].values())
    near = {kind: {"value": 0.0} for kind in kinds}
    assert list(too_far({"to_teacher": {**found["to_teacher"], "distilled": near}})) == []
    lines = table("cliff-r50", found).splitlines()
    assert lines[0] == "| cliff-r50: distance from the teacher | rotations | camera | coefficients |"
    assert len(lines) == 12
    assert np.isfinite(float(lines[2].split("|")[2]))
