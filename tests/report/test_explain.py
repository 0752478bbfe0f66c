"""Notes find their layer; names are matched exactly, by pattern, or near."""

from __future__ import annotations

from typing import Any

import pytest

from bhpe_compile.errors import UsageError
from bhpe_compile.report.explain import Explainer


def note(name: str, site: str, applied: bool = True) -> dict[str, Any]:
    return {"pass_name": name, "site": site, "applied": applied, "reason": f"{name} at {site}"}


def layer(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "convolution",
        "precision": "int8",
        "weights": 9,
        "macs": 90,
        "stored_bytes": 9,
    }


def step(layer_name: str, kind: str) -> dict[str, Any]:
    sizes = dict.fromkeys(("constant_bytes", "read_bytes", "written_bytes"), 4)
    return {"kernel": f"bhpe_{kind}", "kind": kind, "layer": layer_name, "tile": None, **sizes}


PASSES = [("fold", "norm"), ("fold", "half"), ("lower", "fuse"), ("lower", "pack")]

REPORT = {
    "layers": [layer("trunk.conv1"), layer("trunk.conv10"), layer("head")],
    "steps": [
        step("trunk.conv1", "Quantize"),
        step("trunk.conv1", "Int8Conv2d"),
        step("pool_3", "MaxPool2d"),
    ],
    "epilogues": {"trunk.conv1": ["Relu_2"]},
    "notes": [
        note("fuse", "trunk.conv1", False),
        note("norm", "trunk.conv1"),
        note("norm", "trunk.conv1.affine"),
        note("half", "Relu_2"),
        note("pack", "trunk.conv10, head", False),
        note("half", "pool_3"),
        note("fuse", ""),
    ],
}


@pytest.fixture
def explainer() -> Explainer:
    return Explainer(REPORT, PASSES)


def test_every_note_of_a_layer_in_the_order_of_the_passes(explainer: Explainer) -> None:
    found = explainer.explain("trunk.conv1")
    assert [(d.stage, d.pass_name, d.applied) for d in found.decisions] == [
        ("fold", "norm", True),
        ("fold", "norm", True),
        ("fold", "half", True),
        ("lower", "fuse", False),
    ]
    assert found.silent == ("pack",)
    assert [(call.step, call.kind) for call in found.calls] == [(0, "Quantize"), (1, "Int8Conv2d")]
    assert (found.precision, found.macs) == ("int8", 90)


def test_a_note_about_several_layers_is_told_at_each(explainer: Explainer) -> None:
    for name in ("trunk.conv10", "head"):
        assert [d.pass_name for d in explainer.explain(name).decisions] == ["pack"]


def test_names(explainer: Explainer) -> None:
    assert explainer.match(["trunk.*"]) == ("trunk.conv1", "trunk.conv10")
    assert explainer.match(["trunk.conv1", "trunk.conv1"]) == ("trunk.conv1",)
    assert explainer.match(["pool*"]) == ("pool_3",)
    assert explainer.explain("pool_3").precision == ""
    with pytest.raises(UsageError, match=r"did you mean trunk\.conv1"):
        explainer.match(["trunk.conv"])
    with pytest.raises(UsageError, match="lists all layers"):
        explainer.match(["zzz"])
