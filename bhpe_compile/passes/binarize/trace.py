"""From a torch module to the graph that the binarize passes rewrite.

The graph keeps the names of modules and parameters, train and eval mode, and any batch size: it is trained
like the model it came from. Binary layers stay one node each.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from bhpe_compile.errors import InputError
from bhpe_compile.networks.layers.binary import BinaryLayer, RPReLU
from bhpe_compile.networks.layers.residual import LocalResidual


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, BinaryLayer | RPReLU | LocalResidual):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, method: str = "forward") -> fx.GraphModule:
    """Return the graph of a method of `model`; layers are shared with `model`, not copied.

    Raises InputError where the forward pass branches on the values of tensors.
    """
    try:
        tracer = _Tracer()
        tracer.traced_func_name = method
        graph: Any = tracer.trace(model)
    except fx.proxy.TraceError as error:
        name = type(model).__name__
        raise InputError(f"{name} cannot be traced, its forward pass depends on values: {error}") from error
    return fx.GraphModule(model, graph, type(model).__name__)
