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
from bhpe_compile.networks.network import Roles
from bhpe_compile.passes.binarize.roles import OUTPUT_LAYERS, ROLES, find_roles, output_layers


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, BinaryLayer | RPReLU | LocalResidual):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module, method: str = "forward", roles: Roles = ()) -> fx.GraphModule:
    """Return the graph of a method of `model`; layers are shared with `model`, not copied.

    The graph's `meta` says what each layer is for (`roles.py`): `roles` are (glob, role) of the description, by default
    those the model itself has as an attribute `roles`; where none matches, structure decides. A graph that was traced
    before keeps its roles.

    Raises InputError where the forward pass branches on the values of tensors.
    """
    try:
        tracer = _Tracer()
        tracer.traced_func_name = method
        graph: Any = tracer.trace(model)
    except fx.proxy.TraceError as error:
        name = type(model).__name__
        raise InputError(f"{name} cannot be traced, its forward pass depends on values: {error}") from error
    traced = fx.GraphModule(model, graph, type(model).__name__)
    known = getattr(model, "meta", {}).get(ROLES)
    traced.meta[ROLES] = known or find_roles(traced, roles or getattr(model, "roles", ()))
    traced.meta[OUTPUT_LAYERS] = output_layers(traced)
    return traced
