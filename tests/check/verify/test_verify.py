"""verify() accepts a right artefact and names the first difference of a wrong one, in real compiled libraries."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from bhpe_compile.check.verify import VerificationResult, verify
from bhpe_compile.check.verify.oracle import run_values
from bhpe_compile.errors import InputError
from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.kernels import epilogue_tir
from bhpe_compile.networks.interface import Input, Interface, Output
from bhpe_compile.passes.fold.quantize_dense import QuantizeDense
from tests.check.artefacts import SHORTCUT, SIZE, STEM, Here, Small, damaged, recorded_image, signed_again
from tests.command import ROOT
from tests.kept import KeptWorkers
from tests.passes.lower.graphs import small_network

DRAWN, PERSON = (ROOT / "bhpe_compile" / "data" / name for name in ("drawn.jpg", "person.png"))
CONTRACT = {"ok", "equal", "pictures", "binary_exact", "binary_layers", "int8_exact", "int8_layers"} | {
    "first_difference",
    "float_parts",
    "max_abs_error",
}


def verdict(result: VerificationResult) -> tuple[bool, bool, bool, bool]:
    return result.ok, result.equal, result.binary_exact, result.int8_exact


def test_a_right_artefact(right: Path) -> None:
    """Every bit is the same, on the recorded input and on an embedded picture."""
    result = verify(right)
    assert verdict(result) == (True,) * 4
    assert (result.pictures, result.binary_layers, result.int8_layers, result.boxes) == (2, 4, 2, 0)
    assert (result.first_difference, result.float_parts, result.differing) == (None, (), 0)
    assert result.values == 2 * (3 * SIZE * SIZE + 64 * (16 + 16 + 16 + 64 + 32))
    assert set(result.outputs.values()) == {0.0}
    assert (result.max_abs_error, result.largest_output, result.largest_unit) == (0.0, "", "")
    assert json.loads(json.dumps(result.to_json())).keys() >= CONTRACT


def test_pictures_that_are_named_are_the_only_ones(right: Path) -> None:
    ticks: list[str] = []
    result = verify(right, pictures=[DRAWN, PERSON], tick=ticks.append)
    assert verdict(result) == (True,) * 4
    assert result.pictures == 2
    assert ticks == ["check hashes", "ONNX Runtime", str(DRAWN), str(PERSON)]


@pytest.mark.parametrize(
    ("layer", "role", "mask", "place", "exact"),
    [
        # one bit of a +-1 weight, of an 8-bit weight, of floats: what the next layer reads differs
        ("block.conv1", "weight", 1, "signs in front of down.conv1: ", (False, True)),
        ("stem", "weight", 0x40, "signs in front of block.conv1: ", (False, False)),
        ("block.shortcut", "scale", 1, "signs in front of down.conv1: ", (False, True)),
        ("block.conv2", "bias", 1, "signs in front of down.conv1: ", (False, True)),
        ("down.conv1", "zeta", 1, "signs in front of down.conv2: ", (False, True)),
    ],
)
def test_a_wrong_constant(
    layer: str, role: str, mask: int, place: str, exact: tuple[bool, bool], right: Path, tmp_path: Path
) -> None:
    result = verify(damaged(right, tmp_path / "a", layer, role, mask))
    assert verdict(result) == (False, False, *exact)
    assert result.differing > 0
    assert result.first_difference is not None
    assert result.first_difference.startswith(f"the recorded input, {place}")
    assert " differ, first at (0, " in result.first_difference


def test_a_wrong_constant_behind_the_last_sign(right: Path, tmp_path: Path) -> None:
    """No layer reads it any more; the output tells."""
    result = verify(damaged(right, tmp_path / "a", "down.conv2", "zeta", 1))
    assert verdict(result) == (False, True, True, True)
    name = "down.conv2.act.y"
    assert result.first_difference is not None
    assert result.first_difference.startswith(f"the recorded input, output {name}: off by ")
    assert (result.largest_output, result.largest_unit) == (name, "of its largest value")
    assert result.outputs[name] == result.max_abs_error > 1e-5


def test_a_last_bit_behind_the_last_sign_is_within_what_is_allowed(right: Path, tmp_path: Path) -> None:
    """1e-5 is for functions that two libraries round another way; it cannot tell such a bit from one."""
    result = verify(damaged(right, tmp_path / "a", "down.conv2", "zeta", 1, byte=0))
    assert verdict(result) == (True,) * 4
    assert 0 < result.max_abs_error < 1e-5


def test_boxes_are_equal_to_the_last_bit(small: Small, right: Path, tmp_path: Path) -> None:
    """The same last bit, where the output is one of boxes."""
    program = replace(
        small.program,
        interface=replace_outputs(small.program.interface, Output("down.conv2.act.y", kind="boxes")),
    )
    assert verify(small.write(tmp_path / "right", program=program)).equal
    result = verify(damaged(tmp_path / "right", tmp_path / "wrong", "down.conv2", "zeta", 1, byte=0))
    assert verdict(result) == (False, False, True, True)
    assert result.boxes == 1
    assert result.tolerances["down.conv2.act.y"] == 0


def replace_outputs(interface: Interface, *outputs: Output) -> Interface:
    return Interface(inputs=interface.inputs, outputs=outputs)


def test_the_first_of_several_differences_is_named(right: Path, tmp_path: Path) -> None:
    """In the order of the program, and of the pictures."""
    one = damaged(right, tmp_path / "one", "down.conv1", "zeta", 1)
    both = damaged(one, tmp_path / "both", "stem", "weight")
    assert "signs in front of down.conv2" in str(verify(one).first_difference)
    assert "signs in front of block.conv1" in str(verify(both).first_difference)
    named = verify(one, pictures=[PERSON, DRAWN]).first_difference
    assert named is not None
    assert named.startswith(str(PERSON))


def another_bias(content: bytes) -> bytes:
    """model.onnx with one number of a bias one bit off."""
    model = onnx.load_from_string(content)
    bias = next(t for t in model.graph.initializer if t.name == "down.conv1.bias")
    array = numpy_helper.to_array(bias).copy()
    array[0] += np.float32(0.25)
    bias.CopyFrom(numpy_helper.from_array(array, bias.name))
    return bytes(model.SerializeToString())


def test_another_network_in_the_artefact(small: Small, right: Path, tmp_path: Path) -> None:
    shutil.copytree(right, tmp_path / "a")
    signed_again(tmp_path / "a", "model.onnx", another_bias(small.content))
    result = verify(tmp_path / "a")
    assert verdict(result) == (False, False, False, True)
    assert "signs in front of down.conv2" in str(result.first_difference)


def test_layers_that_no_step_computes(small: Small, tmp_path: Path) -> None:
    steps = tuple(
        replace(step, layer="") if step.layer == "block.conv2" else step for step in small.program.steps
    )
    result = verify(small.write(tmp_path / "a", program=replace(small.program, steps=steps)))
    assert verdict(result) == (False, False, False, True)
    assert result.first_difference == "block.conv2: no step of the artefact computes it"


# ---- outputs from elsewhere --------------------------------------------------------------------------------


def test_what_was_recorded_elsewhere_is_held_against_this_machine(small: Small, tmp_path: Path) -> None:
    name = "down.conv2.act.y"
    recorded = {**small.reference, name: small.reference[name] * np.float32(1.5)}
    result = verify(small.write(tmp_path / "a", reference=recorded))
    assert verdict(result) == (False, True, True, True)
    assert result.first_difference is not None
    what = f"what was recorded when it was compiled, output {name}: off by 0.333 of its largest value"
    assert result.first_difference == what


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_record_that_is_no_number_fails(value: float, small: Small, tmp_path: Path) -> None:
    name = "block.sum.y"
    recorded = {**small.reference, name: np.full_like(small.reference[name], value)}
    result = verify(small.write(tmp_path / "a", reference=recorded))
    assert not result.ok
    assert result.first_difference == (
        f"output {name}: NaN or infinity here or in what was recorded when it was compiled"
    )


def test_the_checkpoint_is_asked_on_every_picture(small: Small, right: Path) -> None:
    asked: list[Any] = []

    def network(manifest: Any, feeds: Any) -> Any:
        asked.append(feeds["image"])
        return run_model(small.content, feeds)

    result = verify(right, network=network)
    assert verdict(result) == (True,) * 4
    assert len(asked) == 2
    wrong = verify(
        right, network=lambda manifest, feeds: {n: v + 1 for n, v in network(manifest, feeds).items()}
    )
    assert wrong.first_difference is not None
    assert wrong.first_difference.startswith("the checkpoint, output ")


# ---- inputs ------------------------------------------------------------------------------------------------


def test_a_network_that_takes_no_picture(small: Small, tmp_path: Path) -> None:
    """The recorded input and a seeded one; a picture is refused."""
    port = Input("image", (1, 3, SIZE, SIZE))
    program = replace(small.program, interface=Interface(inputs=(port,)))
    artefact = small.write(tmp_path / "a", program=program)
    ticks: list[str] = []
    result = verify(artefact, tick=ticks.append)
    assert verdict(result) == (True,) * 4
    assert ticks[2:] == ["the recorded input", "a seeded input"]
    with pytest.raises(InputError, match="picture"):
        verify(artefact, pictures=[PERSON])


# ---- float layers ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def in_float(kept_workers: KeptWorkers) -> Small:
    """The same network with its stem and a shortcut in float."""
    return Small.of(small_network(height=SIZE, width=SIZE), kept_workers)


def test_float_layers_are_named_and_held_to_a_tolerance(in_float: Small, tmp_path: Path) -> None:
    result = verify(in_float.write(tmp_path / "a"))
    assert result.ok
    assert not result.equal
    assert result.float_parts == ("stem", "block.shortcut")
    assert (result.binary_layers, result.int8_layers) == (4, 0)
    assert result.differing < 1e-3 * result.values
    assert result.max_abs_error < 1e-4  # given equal signs, float32 sums in another order
    assert set(result.tolerances.values()) == {5e-3}


def test_how_often_an_argmax_agrees_is_counted(in_float: Small, tmp_path: Path) -> None:
    """The library's own run counts: nothing is forced, so a damaged one chooses other places."""
    name = next(iter(in_float.reference.keys() - {"image"}))
    interface = Interface(inputs=in_float.program.interface.inputs, outputs=(Output(name, kind="logits"),))
    artefact = in_float.write(tmp_path / "a", program=replace(in_float.program, interface=interface))
    right = verify(artefact).argmax[name]
    assert right.float_parts == ("stem", "block.shortcut")
    assert right.rows == 2 * in_float.reference[name].size // in_float.reference[name].shape[-1]
    assert right.same > 0.9 * right.rows
    wrong = verify(damaged(artefact, tmp_path / "wrong", "stem", "bias", 0x80)).argmax[name]
    assert (wrong.rows, wrong.same < right.same) == (right.rows, True)


@pytest.mark.parametrize(
    ("layer", "role"), [("stem", "bias"), ("block.conv2", "bias"), ("down.conv2", "zeta")]
)
def test_a_wrong_constant_of_a_float_model(layer: str, role: str, in_float: Small, tmp_path: Path) -> None:
    artefact = in_float.write(tmp_path / "right")
    result = verify(damaged(artefact, tmp_path / "wrong", layer, role))
    assert not result.ok
    assert result.first_difference is not None
    assert "output " in result.first_difference


def test_a_wrong_weight_bit_of_a_float_model(in_float: Small, tmp_path: Path) -> None:
    artefact = in_float.write(tmp_path / "right")
    result = verify(damaged(artefact, tmp_path / "wrong", "block.conv1", "weight", 1))
    assert not result.ok


# ---- a compiler that contracts -----------------------------------------------------------------------------


def on_thresholds() -> ir.Model:
    """An 8-bit layer whose values, in the recorded input, lie on the thresholds of the layer that reads them."""
    model = small_network(height=SIZE, width=SIZE)
    QuantizeDense(dict.fromkeys((STEM, SHORTCUT), (-2.0, 2.0)))(model)
    values = run_values(ir.to_proto(model), {"image": recorded_image()}, ["pool.y"])
    name = "block.conv1.threshold"
    model.graph.initializers[name].const_value = ir.tensor(values["pool.y"][0, :, 3, 4], name=name)
    return model


def test_a_compiler_that_contracts_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fence LLVM makes one fused multiply-add of a product and a sum; the sum is another number."""
    assert verify(Small.of(on_thresholds(), Here()).write(tmp_path / "right")).equal
    monkeypatch.setattr(epilogue_tir, "uncontracted", lambda value, lanes: value)
    result = verify(Small.of(on_thresholds(), Here()).write(tmp_path / "fused"))
    assert verdict(result) == (False, False, False, True)
    assert 0 < result.differing < 100
    assert result.first_difference is not None
    assert result.first_difference.startswith("the recorded input, signs in front of block.conv1: ")
