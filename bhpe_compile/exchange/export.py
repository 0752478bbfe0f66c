"""A frozen torch.fx graph -> ONNX, opset 18, with `bhpe` nodes and named layers.

The network runs once and every operation is written down (`record`). Where one has no entry there, torch's exporter
does the work instead, which takes many times as long. Either way a node whose weight is a parameter computes the layer
that holds the parameter and takes its path as name, and the bodies of the `bhpe` operators are attached at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.exchange.magnitudes import Watcher, all_finite, first_not_finite
from bhpe_compile.exchange.nodes import set_layer, weight_of
from bhpe_compile.exchange.operations import TABLE
from bhpe_compile.exchange.record import Recorder

IR_VERSION = 10


@dataclass(frozen=True)
class Run:
    """One run of a network: what it computed, by name, and the record of how."""

    graph: fx.GraphModule
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    recorder: Recorder
    largest: Mapping[str, float] = field(default_factory=dict)
    """Magnitudes of the nodes that were watched."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What the results of these nodes are called in the model; not those that it has not."""

    @property
    def refusal(self) -> str | None:
        """The operation that the record does not know, so that torch's exporter has to write the model; or None."""
        return self.recorder.refusal

    @property
    def broken(self) -> str | None:
        """The first layer, or else operation, that made NaN or infinity of finite numbers; None where all is finite.

        Operations without a parameter count where an output is not finite: some hide what they may not look at
        behind infinity.
        """
        if self.recorder.broken is not None:
            return f"layer {self.recorder.broken.rpartition('.')[0] or self.recorder.broken}"
        for name, value in self.outputs.items():
            if not all_finite([value]):
                return first_not_finite(self.graph, self.inputs) or f"output {name}"
        return None

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """All inputs and outputs by name."""
        return {name: value.numpy() for name, value in (*self.inputs.items(), *self.outputs.items())}


def run(graph: fx.GraphModule, inputs: Mapping[str, Tensor], watched: Collection[str] = ()) -> Run:
    """Execute `graph` (frozen; returns a dict of tensors) on `inputs`, in their order; batch 1.

    watched: nodes whose largest magnitude is kept.
    """
    if not isinstance(graph.graph.output_node().args[0], Mapping):
        raise TypeError("the graph has to return a dict of tensors")
    recorder = Recorder(graph, TABLE)
    for name, tensor in inputs.items():
        recorder.begin(tensor, name)
    largest: dict[str, float] = {}
    values: dict[str, str] = {}

    def see(name: str, value: Tensor) -> None:
        written = recorder.name_of(value)
        if written is not None:
            values[name] = written

    with torch.no_grad(), recorder:
        # not by calling it: a GraphModule prints tracebacks of its own to stderr
        outputs = Watcher(graph, watched, largest, see).run(*inputs.values())
    return Run(graph, inputs, outputs, recorder, largest, values if recorder.refusal is None else {})


def export(graph: fx.GraphModule, inputs: Mapping[str, Tensor]) -> ir.Model:
    """`graph` as ONNX, for inputs like `inputs`."""
    return to_onnx(run(graph, inputs))


def to_onnx(run: Run) -> ir.Model:
    """The network that ran as ONNX. The outputs are named as the dict's keys; the layers' nodes as their paths."""
    if run.refusal is None:
        model = run.recorder.finish(run.outputs)
    else:
        from bhpe_compile.exchange.torch_export import torch_export

        model = torch_export(run.graph, run.inputs, list(run.outputs))
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "bhpe-compile", ""
    model.graph.name = "bhpe"
    _shape_parameters(model.graph)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    enter_layers(model, run.graph)
    attach_bodies(model)
    return model


def enter_layers(model: ir.Model, graph: fx.GraphModule) -> None:
    """Set the layer of every node that reads a parameter of `graph` as its weight, and name the node after it.

    A layer that is called several times has a node for each call: PATH, PATH#1, ...
    """
    owners = {
        f"{path}.{name}": path
        for path, module in graph.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if path
    }
    taken: set[str] = set()
    for node in model.graph:
        weight = weight_of(node)
        path = owners.get(weight.name or "") if weight is not None else None
        if path is None:
            continue
        set_layer(node, path)
        name, count = path, 1
        while name in taken:
            name, count = f"{path}#{count}", count + 1
        taken.add(name)
        node.name = name


def _shape_parameters(graph: ir.Graph) -> None:
    """RPReLU's parameters [C] -> [C,1,1] where x has rank 4: they broadcast without a Reshape.

    Equal parameters of several layers are one initializer after export, so each column is a new one.
    """
    for node in graph:
        x = node.inputs[0] if node.domain == DOMAIN and node.op_type == "RPReLU" else None
        if x is None or x.shape is None or len(x.shape) != 4:
            continue
        for index, value in enumerate(node.inputs):
            if index == 0 or value is None or value.const_value is None:
                continue
            name = f"{value.name}.column"
            if name not in graph.initializers:
                array = value.const_value.numpy().reshape(-1, 1, 1)
                column = ir.Value(
                    name=name,
                    const_value=ir.Tensor(array, name=name),
                    type=ir.TensorType(ir.DataType.FLOAT),
                    shape=ir.Shape(array.shape),
                )
                graph.register_initializer(column)
            node.replace_input_with(index, graph.initializers[name])
