"""What `make bench` does around its measurements: merging results, naming what is missing, drawing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

STEPS = [
    {"layer": "backbone.conv1", "role": "stem", "kind": "DenseConv2d", "group": "dense", "ms": 2.0},
    {"layer": "", "role": "", "kind": "glue", "group": "other", "ms": 0.1},
    {
        "layer": "backbone.layer1.0.conv1",
        "role": "core",
        "kind": "BinaryConv2d",
        "group": "binary",
        "ms": 0.3,
    },
    {
        "layer": "box_net.deconv.0",
        "role": "branch",
        "kind": "BinaryConvTranspose2d",
        "group": "binary",
        "ms": 0.5,
    },
]


def fake_parts(conv: dict[str, Any], arm: dict[str, Any] | None) -> Any:
    """In the place of `run.parts`: figures without measurements; an `arm` of None fails."""
    import run

    def failing() -> dict[str, Any]:
        if arm is None:
            raise run.PartError("no analyser")
        return arm

    return lambda *_: {"conv": lambda: conv, "arm": failing}


def test_parts_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import run

    results = tmp_path / "deep" / "latest.json"
    name = "conv_bits_vs_ort_fp32"
    arm = {"mac_per_instruction": 34.1, "mca_mac_per_cycle": {"cortex-a72": 80.0}}
    monkeypatch.setattr(
        run, "parts", fake_parts({"ratios": {name: 19.0, "more": 1.0}, "missing": ["x"]}, arm)
    )
    run.main(["--results", str(results)])
    found = json.loads(results.read_text())
    assert found["ratios"] == {name: 19.0}
    assert found["arm"] == arm
    assert found["missing"] == ["conv: x"]
    assert found["details"]["conv"]["ratios"]["more"] == 1.0
    assert {"cpu", "threads", "versions", "date"} <= found.keys()
    monkeypatch.setattr(run, "parts", fake_parts({"ratios": {name: 20.0}}, arm))
    run.main(["--only", "conv", "--results", str(results)])
    again = json.loads(results.read_text())
    assert again["ratios"] == {name: 20.0}
    assert again["arm"] == arm
    assert again["missing"] == []


def test_a_part_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import run

    monkeypatch.setattr(run, "parts", fake_parts({"ratios": {}}, None))
    with pytest.raises(SystemExit, match="failed: arm"):
        run.main(["--results", str(tmp_path / "latest.json")])
    assert "arm failed: no analyser" in capsys.readouterr().out
    assert "conv" in json.loads((tmp_path / "latest.json").read_text())["details"]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    import run

    with pytest.raises(SystemExit):
        run.main(["--only", "conv,cnov"])
    assert "unknown part cnov" in capsys.readouterr().err


def test_the_drawing_is_well_formed() -> None:
    import where_time_goes

    figures = {
        "all": STEPS,
        "sum_ms": {"binary": 0.8, "8-bit": 0.0, "dense": 2.0, "other": 0.1},
        "steps": {"binary": 2, "8-bit": 0, "dense": 1, "other": 1},
    }
    drawing = where_time_goes.draw(figures, "a < b & c")
    texts = ["".join(element.itertext()) for element in ElementTree.fromstring(drawing).iter()]
    assert "a < b & c" in texts
    assert "stem" in texts
    assert any(text.startswith("body trunk, 2.4 ms") for text in texts)
    assert any(text.startswith("boxes, 0.5 ms") for text in texts)
    assert "milliseconds of one step" in texts


def test_missing_modules_are_named() -> None:
    import peers

    assert peers.missing("json", "no_such_module_at_all") == ["no_such_module_at_all"]


def test_a_peer_that_computes_something_else_is_not_timed() -> None:
    import common
    import numpy as np

    want = np.ones(4, np.float32)
    assert common.require_close("peer", want + np.float32(0.01), want, 0.05) < 0.05
    for got in (want * 2, np.ones(3, np.float32), want * np.nan):
        with pytest.raises(SystemExit, match="peer disagrees with torch"):
            common.require_close("peer", got, want, 0.05)


def test_disturbed_runs_are_named() -> None:
    import common

    times = {"quiet": [1.0, 1.05, 1.1], "loaded": [1.0, 1.4, 1.5]}
    assert common.disturbed(times) == ["loaded"]
    assert common.summary(times)["disturbed"] == ["loaded"]
