"""An ONNX file as a network that trains: its graph step by step as plain torch modules, its weights as parameters.

    file -> frontends.onnx -> onnxsim -> the graph's plain forms -> Structure and state -> torch.fx graph

One binarizer and one training loop serve all networks (`passes/binarize`, `distill`): they rewrite and train torch.fx
graphs, so that is what a file becomes. Its student is a checkpoint like any other, which carries its structure as data
(`networks/structure.py`) and its description, and compiles without the file.

Norms. Files usually have the batch norms folded into their convolutions, and a binary convolution needs one behind it:
sums of signs have another scale than the sums they replace. So every convolution gets one, but for those that compute
an output or a single pixel. It computes nothing at first,

    conv(x, w) + b   =   norm(conv(x, w)),   mean 0, variance 1, gain 1, shift b

and `distill/settle.py` gives it the mean and the variance that the convolution's results have on pictures, with the
gain and the shift that make it compute the same again: what folding took away.

A graph that cannot be trained is refused, in a line that names the node: operators without a gradient, quantized files,
and what moves the first axis, along which the pictures of a batch lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from bhpe_compile.errors import InputError
from bhpe_compile.exchange.runtime import run_model
from bhpe_compile.frontends.imported import Imported
from bhpe_compile.frontends.onnx import load_onnx
from bhpe_compile.frontends.onnx_sizes import with_output_shapes
from bhpe_compile.frontends.simplified import simplified
from bhpe_compile.frontends.state import load_state
from bhpe_compile.frontends.structure_operators import EMITTERS, written
from bhpe_compile.frontends.structured import structured_network
from bhpe_compile.networks.described import describe_ports
from bhpe_compile.networks.structure import NETWORK
from bhpe_compile.passes.base import PassManager
from bhpe_compile.passes.fold.explicit_padding import ExplicitPadding
from bhpe_compile.passes.imported.flat_windows import FlatWindows
from bhpe_compile.passes.imported.linear_layers import LinearLayers
from bhpe_compile.passes.imported.name_layers import NameLayers
from bhpe_compile.passes.imported.plain_forms import PlainForms
from bhpe_compile.passes.imported.spread_layers import SpreadLayers

SAME, SMALL = 1e-4, 1e-2
"""What torch computes may differ from ONNX Runtime by this part of the largest value, because sums have another order;
of `SMALL` where all values are below it: ONNX Runtime's sigmoid is an approximation."""

SEED = 0
"""Of the inputs on which the two are compared."""

QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger")


def load_trainable(
    path: Path, description: str | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> Imported:
    """The network of an ONNX file. description: `--network FILE.toml`; shapes: of inputs that the file leaves open.

    Raises as `load_onnx` and `describe_ports`, and InputError for a graph that cannot be trained.
    """
    file = load_onnx(path, shapes)
    outputs = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in file.model.graph.output
    }
    ports = {name: shape for name, (shape, _) in file.initial.items()}
    interface = describe_ports(file.source, ports, outputs, description, file.metadata)
    described = {one.name: one.shape for one in interface.outputs if one.shape}
    proto = with_output_shapes(file.source, file.model, described)
    for name, (shape, dtype) in file.initial.items():
        if dtype != "float32" or shape[:1] != (1,):
            raise InputError(
                f"{path}: cannot be trained: input {name} is {dtype} {list(shape)}; inputs that train are float32, and "
                "their first axis is a batch of 1"
            )
    graph = simplified(proto)[0]
    _refuse_others(path, graph.graph)
    plain = PassManager([PlainForms(), FlatWindows(), LinearLayers(), SpreadLayers(), NameLayers()])
    graph = ExplicitPadding()(plain.run(graph)).graph
    structure, state = written(str(path), graph)
    network = structured_network(path.stem, structure, state, interface, str(path))
    model = network.build(path.stem)
    load_state(model, state, str(path))
    _compare(path, model, proto.SerializeToString(), file.initial)
    return Imported(model, network, path.stem, interface, None, state, NETWORK, str(path))


def _refuse_others(path: Path, graph: ir.Graph) -> None:
    """InputError for the first node that has no form here."""
    for node in graph:
        name = f"node {node.op_type} ({node.name or node.outputs[0].name})"
        if node.op_type in QUANTIZED:
            raise InputError(
                f"{path}: cannot be trained: {name} rounds to levels of its own; distill the file that it was "
                "quantized from"
            )
        if node.domain not in ("", "ai.onnx") or node.op_type not in {*EMITTERS, "Tile", "Dropout"}:
            raise InputError(f"{path}: cannot be trained: {name} has no form here that has a gradient")


def _compare(
    path: Path, model: nn.Module, content: bytes, ports: Mapping[str, tuple[tuple[int, ...], str]]
) -> None:
    """InputError where torch computes something else than ONNX Runtime."""
    drawn = np.random.default_rng(SEED)
    feeds = {name: drawn.random(shape, np.float32) for name, (shape, _) in ports.items()}
    try:
        want = run_model(content, feeds)
    except Exception as error:  # ONNX Runtime has a dozen kinds, not all of them its own
        line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"{path}: ONNX Runtime does not run it: {line.strip()[:300]}") from None
    with torch.no_grad():
        found = model(*(torch.from_numpy(array) for array in feeds.values()))
    wrong = {}
    for name, array in want.items():
        far = float(np.abs(found[name].numpy() - array).max(initial=0))
        far /= max(SMALL, float(np.abs(array).max(initial=0)))
        if not far <= SAME:
            wrong[name] = far
    if wrong:
        told = ", ".join(f"{name} by {far:.1e}" for name, far in wrong.items())
        raise InputError(
            f"{path}: cannot be trained: computed in torch, its outputs differ from ONNX Runtime's: {told} of the "
            "largest value"
        )
