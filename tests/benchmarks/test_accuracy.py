"""The table of accuracy: rows of networks that are gone are kept, and only beside the same people."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from bhpe_compile.evaluate.evaluate import Data, Evaluation, Row
from bhpe_compile.evaluate.metrics import METRICS

MILLIMETRES = {
    "mean pose": 300.0,
    "full_precision": 130.0,
    "naive": 400.0,
    "bnn": 157.0,
    "reactnet": 156.0,
    "bidrn_alike": 153.0,
    "bidrn_all": 185.0,
    "bidrn": 150.0,
    "bidrn_still": 152.0,
    "frozen": 150.5,
    "compiled": 150.5,
}


def measured(without: tuple[str, ...] = (), add: float = 0.0) -> Evaluation:
    """Rows whose errors lie around `MILLIMETRES` + `add`, of five people."""
    spread = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    rows = [
        Row(name, "torch", dict.fromkeys(METRICS, value + add + spread))
        for name, value in MILLIMETRES.items()
        if name not in without
    ]
    return Evaluation(Data("synth", 5, f"pixels {add}", "body.npz", f"body {add}"), tuple(rows))


def summary(result: Evaluation, before: dict[str, Any] | None = None) -> dict[str, Any]:
    import accuracy

    found: dict[str, Any] = accuracy.summarise(result, 0, before)
    return found


def test_ratios_and_differences() -> None:
    found = summary(measured())
    assert found["kept"] == {}
    assert found["limits"]["bidrn / full_precision, mpvpe"] == {
        "value": round(150 / 130, 4),
        "must": 1.08,
        "aim": 1.03,
        "held": False,
    }
    assert not found["limits"]["bidrn_all / full_precision, mpvpe"]["held"]
    assert found["differences"]["bnn - bidrn_alike, mpvpe"] == {"value": 4.0, "interval": [4.0, 4.0]}


def test_what_holds_still_is_told() -> None:
    import accuracy

    def row(mesh: float, boxes: float) -> dict[str, Any]:
        return {"mesh_mm": {"median": mesh}, "box_px": {"median": boxes}}

    jitter = {
        "full_precision": {"one_level": row(4.0, 0.2), "film": row(25.0, 2.0)},
        "bidrn": {"one_level": row(12.5, 0.8), "film": row(30.0, 3.0)},
    }
    assert accuracy.still_limits(jitter) == {
        "bidrn, one_level, mesh_mm": {"value": 12.5, "must": 12.0, "aim": 6.0, "held": False},
        "bidrn, one_level, box_px": {"value": 0.8, "must": 2.0, "aim": 0.7, "held": True},
        "bidrn / full_precision, film, mesh_mm": {"value": 1.2, "must": 2.0, "aim": 1.3, "held": True},
    }


def test_rows_of_networks_that_are_gone_are_kept() -> None:
    before = summary(measured())
    gone = ("bnn", "reactnet", "bidrn_alike")
    found = summary(measured(gone, add=0.1), copy.deepcopy(before))
    assert set(found["kept"]) == set(gone)
    assert all(data == before["data"] for data in found["kept"].values())
    assert found["rows"]["bnn"] == before["rows"]["bnn"]
    assert found["rows"]["bidrn"]["mpvpe"] == 150.1
    assert found["differences"] == before["differences"]
    again = summary(measured(gone, add=0.2), copy.deepcopy(found))
    assert again["kept"] == found["kept"], "the data they were measured on, not those of the last result"


@pytest.mark.parametrize("add", [1.0, -1.0])
def test_rows_of_other_people_are_not_kept(add: float) -> None:
    before = summary(measured())
    with pytest.raises(SystemExit, match="of other people"):
        summary(measured(("bnn",), add=add), before)


def test_without_an_earlier_result_every_network_must_be_there() -> None:
    with pytest.raises(SystemExit, match="bnn: neither a file nor a row"):
        summary(measured(("bnn",)))
