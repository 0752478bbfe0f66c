"""The whole tiny network, binarized: torch against ONNX Runtime, as exported, simplified and folded.

Two float libraries sum in different orders. A value that lands within a rounding error of its threshold then takes
the other sign, and behind it an untrained network is chaotic: from one flip in ten million signs, every layer makes
several more. Therefore every binary layer is given torch's signs, and what it would have decided itself is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from bhpe_compile.check.verify.compare import beyond, differences
from bhpe_compile.exchange.export import export
from bhpe_compile.exchange.nodes import array_of
from bhpe_compile.exchange.simplify import simplify
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import OUTPUTS, Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.layers.binary import BinaryLayer
from bhpe_compile.passes.base import PassManager
from bhpe_compile.passes.binarize import BIDRN, BinarizeOptions, binarize, freeze
from bhpe_compile.passes.fold import fold_passes
from tests.passes.fold.graphs import run

Signs = dict[str, NDArray[np.bool_]]

MOST_FLIPS = 1e-5
"""Share of all signs: 5 of half a million, where 0 were measured. A wrong threshold or scale flips tens of percent."""


@dataclass(frozen=True)
class Chain:
    """Outputs and signs (by layer) of every form of one network on one picture."""

    torch_outputs: dict[str, NDArray[Any]]
    torch_signs: Signs
    outputs: dict[str, dict[str, NDArray[Any]]]
    signs: dict[str, Signs]
    models: dict[str, bytes]


def _smooth_picture() -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(1, 3, 16, 12, generator=generator)
    return nn.functional.interpolate(coarse, size=(512, 384), mode="bicubic").clamp(0, 1)


def _torch_signs(graph: nn.Module, image: torch.Tensor) -> tuple[dict[str, NDArray[Any]], Signs]:
    signs: Signs = {}

    def keep(path: str) -> Any:
        def hook(layer: BinaryLayer, inputs: tuple[torch.Tensor]) -> None:
            threshold = layer.threshold.view(-1, *[1] * (inputs[0].ndim - 2))
            signs[path] = (inputs[0] >= threshold).numpy()

        return hook

    hooks = [
        m.register_forward_pre_hook(keep(p)) for p, m in graph.named_modules() if isinstance(m, BinaryLayer)
    ]
    with torch.no_grad():
        outputs = {name: value.numpy() for name, value in graph(image).items()}
    for hook in hooks:
        hook.remove()
    return outputs, signs


def _run_given_signs(
    model: ir.Model, image: NDArray[Any], given: Signs
) -> tuple[dict[str, NDArray[Any]], Signs]:
    """Outputs when every binary layer reads the given signs, and the signs it would have read.

    In a copy of the model each such layer reads a new input instead, at or just below its threshold.
    """
    copy = ir.from_proto(ir.to_proto(model))
    layers = [n for n in copy.graph if n.domain == "bhpe" and "Binary" in n.op_type]
    own, feeds = {}, [image]
    for layer in layers:
        x, t = layer.inputs[0], array_of(layer.inputs[1])
        assert x is not None
        assert t is not None
        path = layer.name or ""
        threshold = t.reshape(-1, *[1] * (given[path].ndim - 2)).astype(np.float32)
        own[path] = (x.name, threshold)
        if x not in copy.graph.outputs:
            copy.graph.outputs.append(x)
        forced = ir.Value(name=f"{path}.forced", type=x.type, shape=x.shape)
        copy.graph.inputs.append(forced)
        layer.replace_input_with(0, forced)
        feeds.append(np.where(given[path], threshold, np.nextafter(threshold, np.float32(-np.inf))))
    values = dict(zip([o.name for o in copy.graph.outputs], run(copy, *feeds), strict=True))
    signs = {path: values[name] >= threshold for path, (name, threshold) in own.items()}
    return {name: values[name] for name in OUTPUTS}, signs


@pytest.fixture(scope="module")
def chain() -> Chain:
    model = initialise(Hand4Whole(TINY), 0)
    generator = torch.Generator().manual_seed(1)
    graph, _ = binarize(model, BinarizeOptions(scheme=BIDRN))
    with torch.no_grad():  # trained values are not the initial ones: thresholds and activations off zero
        for path, parameter in graph.named_parameters():
            if path.endswith(("threshold", "gamma", "zeta")):
                parameter.normal_(0, 0.1, generator=generator)
    frozen = freeze(graph)
    image = _smooth_picture()
    torch_outputs, torch_signs = _torch_signs(frozen, image)
    exported = export(frozen, {"image": image})
    forms = {"exported": ir.from_proto(ir.to_proto(exported))}
    simplified, notes = simplify(exported)
    assert [note.applied for note in notes] == [True], notes
    forms["simplified"] = ir.from_proto(ir.to_proto(simplified))
    forms["folded"] = PassManager(fold_passes()).run(simplified)
    ran = {form: _run_given_signs(one, image.numpy(), torch_signs) for form, one in forms.items()}
    return Chain(
        torch_outputs,
        torch_signs,
        {form: outputs for form, (outputs, _) in ran.items()},
        {form: signs for form, (_, signs) in ran.items()},
        {form: ir.to_proto(one).SerializeToString() for form, one in forms.items()},
    )


def flips(got: Signs, want: Signs) -> tuple[int, int]:
    """(signs that differ, signs)."""
    different = sum(int((got[layer] != want[layer]).sum()) for layer in want)
    return different, sum(signs.size for signs in want.values())


@pytest.mark.parametrize("form", ["exported", "simplified", "folded"])
def test_outputs_are_those_of_torch(chain: Chain, form: str) -> None:
    assert list(chain.outputs[form]) == list(chain.torch_outputs) == list(OUTPUTS)
    interface = NETWORK.interface("tiny")
    gaps = differences(interface, chain.outputs[form], chain.torch_outputs)
    assert beyond(interface, gaps) == {}


def test_outputs_move(chain: Chain) -> None:
    """An agreement of constants would prove nothing."""
    boxes = [chain.torch_outputs[name] for name in OUTPUTS if name.endswith("_bbox")]
    assert all(np.ptp(box) > 16 for box in boxes)
    assert all(np.isfinite(value).all() and np.ptp(value) > 0 for value in chain.torch_outputs.values())


@pytest.mark.parametrize("form", ["exported", "simplified", "folded"])
def test_signs_are_those_of_torch_up_to_rounding(chain: Chain, form: str) -> None:
    different, total = flips(chain.signs[form], chain.torch_signs)
    assert total == 352_224  # every input of a binary layer, once
    assert different <= MOST_FLIPS * total


def test_simplification_changes_no_bit(chain: Chain) -> None:
    assert flips(chain.signs["simplified"], chain.signs["exported"])[0] == 0
    for name, want in chain.outputs["exported"].items():
        np.testing.assert_array_equal(chain.outputs["simplified"][name], want)


def test_the_folded_form_is_what_lowering_expects(chain: Chain) -> None:
    model = ir.from_proto(onnx.load_from_string(chain.models["folded"]))
    kinds = {(node.domain, node.op_type) for node in model.graph}
    assert ("", "BatchNormalization") not in kinds
    assert not any(domain == "bhpe" and kind.startswith("Binary") for domain, kind in kinds)
    for node in model.graph:
        for value in node.outputs:
            assert value.shape is not None, value
            assert all(isinstance(d, int) for d in value.shape), value
        if node.op_type in ("Conv", "ConvTranspose"):
            assert len(node.inputs) == 2
            weight = array_of(node.inputs[1])
            assert weight is not None
            np.testing.assert_array_equal(weight, weight.astype(np.float16).astype(np.float32))
            assert [use.node.op_type for use in node.outputs[0].uses()] == ["ChannelAffine"]
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names)
    assert set(chain.torch_signs) <= set(names)


def test_no_operator_that_would_run_slowly_or_not_at_all(chain: Chain) -> None:
    """Data-dependent shapes and loops have no place in a static program; some importers lack Atan2."""
    model = ir.from_proto(onnx.load_from_string(chain.models["exported"]))
    unwanted = {"Loop", "If", "Scan", "NonZero", "ScatterND", "Atan2", "Det", "SequenceAt"}
    assert unwanted.isdisjoint({node.op_type for node in model.graph})
