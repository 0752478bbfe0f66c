"""Activations that no two programs compute alike, as functions of one number: what tables of levels are made of.

    SiLU       x * Sigmoid(x)          the two nodes, in either order of the factors
    HardSwish  one node, or x * HardSigmoid(x)
    Sigmoid, Tanh, Gelu, Elu, Softplus, Mish

with the sums and products by one number behind them (a f(x) + b, a learned scale).

Beyond a span of its own an activation is flat, or next to it: levels need not reach further.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bhpe_compile.exchange.affines import affine_behind
from bhpe_compile.exchange.nodes import text

Doubles = NDArray[np.float64]
Formula = Callable[[Doubles], Doubles]


@dataclass(frozen=True)
class Activation:
    """y = formula(x), float64; `nodes` compute it, the last one its result. It is flat outside of `span`."""

    name: str
    formula: Formula
    span: tuple[float, float]
    nodes: tuple[ir.Node, ...]

    @property
    def result(self) -> ir.Value:
        """y."""
        return self.nodes[-1].outputs[0]


def span_of(value: ir.Value) -> str:
    """The key of the range of a value that an activation reads."""
    return f"activation of {value.name}"


def _sigmoid(x: Doubles) -> Doubles:
    found: Doubles = 1 / (1 + np.exp(-x))
    return found


def _erf(x: Doubles) -> Doubles:
    found: Doubles = np.vectorize(math.erf, otypes=[np.float64])(x)
    return found


def _gelu(x: Doubles) -> Doubles:
    found: Doubles = x * (1 + _erf(x / math.sqrt(2))) / 2
    return found


def _tanh_gelu(x: Doubles) -> Doubles:
    found: Doubles = x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return found


def _hard_swish(x: Doubles) -> Doubles:
    return x * np.clip(x / 6 + 0.5, 0, 1)


def _softplus(x: Doubles) -> Doubles:
    return np.logaddexp(x, 0)


def _mish(x: Doubles) -> Doubles:
    found: Doubles = x * np.tanh(_softplus(x))
    return found


def _elu(alpha: float) -> Formula:
    return lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


INF = math.inf

# Lower ends where what is cut off costs less than coarser steps would (SiLU of 256 levels: 37 - 39 dB from -3 .. -5 on,
# 4 dB less over a whole range).
_ONE: dict[str, tuple[Formula, tuple[float, float]]] = {
    "Sigmoid": (_sigmoid, (-6, 6)),
    "Tanh": (np.tanh, (-3.5, 3.5)),
    "HardSwish": (_hard_swish, (-3, INF)),
    "Softplus": (_softplus, (-5, INF)),
    "Mish": (_mish, (-4.5, INF)),
}
_TIMES: dict[str, tuple[str, Formula, tuple[float, float]]] = {
    "Sigmoid": ("SiLU", lambda x: x * _sigmoid(x), (-4.5, INF)),
    "HardSigmoid": ("HardSwish", _hard_swish, (-3, INF)),
}
"""What x times such a function of x is."""


def activation_of(value: ir.Value) -> Activation | None:
    """The activation that is all that reads `value`; None where there is none, or something else reads it too."""
    if value.is_graph_output():
        return None
    readers = list(dict.fromkeys(use.node for use in value.uses()))
    if any(node.domain not in ("", "ai.onnx") for node in readers):
        return None
    found = None
    if len(readers) == 1:
        found = _single(readers[0])
    elif len(readers) == 2:
        found = _product(value, readers)
    return None if found is None else _scaled(found)


def _scaled(activation: Activation) -> Activation:
    """The activation with the sums and products by one number that follow it."""
    while (behind := affine_behind(activation.result)) is not None:
        node, a, b = behind
        if a.size != 1 or b.size != 1:
            break
        activation = replace(
            activation,
            formula=_affine(activation.formula, float(a.reshape(())), float(b.reshape(()))),
            nodes=(*activation.nodes, node),
        )
    return activation


def _affine(formula: Formula, a: float, b: float) -> Formula:
    return lambda x: a * formula(x) + b


def _single(node: ir.Node) -> Activation | None:
    if node.op_type in _ONE:
        formula, span = _ONE[node.op_type]
        return Activation(node.op_type, formula, span, (node,))
    if node.op_type == "Gelu":
        formula = _tanh_gelu if text(node, "approximate", "none") == "tanh" else _gelu
        return Activation("GELU", formula, (-3.5, INF), (node,))
    if node.op_type == "Elu":
        alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
        return Activation("ELU", _elu(alpha), (-5, INF), (node,))
    return None


def _product(value: ir.Value, readers: list[ir.Node]) -> Activation | None:
    inner, outer = sorted(readers, key=lambda node: node.op_type == "Mul")
    if outer.op_type != "Mul" or inner.op_type not in _TIMES or len(list(inner.outputs[0].uses())) != 1:
        return None
    if set(outer.inputs) != {value, inner.outputs[0]} or inner.outputs[0].is_graph_output():
        return None
    if inner.op_type == "HardSigmoid":
        alpha, beta = (
            inner.attributes[key].as_float() if key in inner.attributes else usual
            for key, usual in (("alpha", 0.2), ("beta", 0.5))
        )
        if abs(alpha - 1 / 6) > 1e-6 or beta != 0.5:
            return None
    name, formula, span = _TIMES[inner.op_type]
    return Activation(name, formula, span, (inner, outer))
