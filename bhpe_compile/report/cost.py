"""The one cost model: what a layer costs, and three ways to count operations.

    paper            full-precision MACs + binary MACs / 64 + one operation per element-wise step
                     (BinaryHPE, arXiv 2311.14323, its tables; an 8-bit MAC counts as a full-precision one)
    bit operations   sum of weight bits x activation bits x MACs (as qonnx counts "bops")
    MACs by bits     1-bit, 8-bit and float MACs side by side, never added up (as Larq's model summary counts)

They answer different questions and none of them is a time. MACs are of one picture; a layer that a network calls for
several crops (two hands: a batch of two), or several times, counts each time. A transposed convolution counts kernel^2
x Cin x Cout at every input pixel, taps that fall outside included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Self

from bhpe_compile.networks.network import OTHER, Role

BINARY, INT8, FLOAT16, FLOAT32 = "binary", "int8", "float16", "float32"

PRECISIONS = (BINARY, INT8, FLOAT16, FLOAT32)

CONVOLUTION, TRANSPOSED, LINEAR = "convolution", "transposed convolution", "linear"

PRODUCT = "product"
"""Of two matrices that the network computes: no weights."""

KINDS = (CONVOLUTION, TRANSPOSED, LINEAR, PRODUCT)

BITS = {BINARY: (1, 1), INT8: (8, 8), FLOAT16: (16, 32), FLOAT32: (32, 32)}
"""Bits of a weight and of an activation. float16 is how weights are stored; activations stay float32."""

INT8_LINEAR_BITS = (8, 24)
"""Inputs of 8-bit linear layers are three bytes."""

BINARY_PARAMETER, BINARY_OPERATION = 32, 64
"""The paper's weights: so many binary ones are one parameter, one operation."""


@dataclass(frozen=True)
class Layer:
    """One layer with weights.

    `weights` without bias; `inputs` and `outputs` are elements of its maps; `trained` is False for a constant of a
    formula. What depends on how it is compiled is 0, or empty, until that is known: `nbytes` what it keeps in the
    file, its scales, biases and tables included; `traffic` bytes of activations it reads and writes; `kernels` what
    computes it. `ms` is its measured time, None when nothing was measured. `role` is what it is for (`places.py`),
    `stage` the part of the network it belongs to.
    """

    name: str
    kind: str
    precision: str
    weights: int
    macs: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    inputs: int
    outputs: int
    nbytes: int = 0
    traffic: int = 0
    kernels: tuple[str, ...] = ()
    trained: bool = True
    ms: float | None = None
    role: Role = "head"
    stage: str = OTHER

    @property
    def bits(self) -> tuple[int, int]:
        """Bits of a weight and of an activation in its arithmetic."""
        return INT8_LINEAR_BITS if (self.precision, self.kind) == (INT8, LINEAR) else BITS[self.precision]

    @property
    def bit_operations(self) -> int:
        """Weight bits x activation bits x MACs."""
        return self.bits[0] * self.bits[1] * self.macs

    @property
    def stored_bytes(self) -> int:
        """Bytes of the weights alone in model.onnx: bits of whole words of 32 input channels, or 1, 2 or 4 each."""
        if self.precision == BINARY:
            return 4 * self.out_channels * -(-self.in_channels // 32) * prod(self.kernel)
        return self.weights * BITS[self.precision][0] // 8

    def to_row(self) -> dict[str, Any]:
        """What report.json keeps of it, before it is known how it is compiled."""
        return {
            "name": self.name,
            "role": self.role,
            "stage": self.stage,
            "kind": f"binary {self.kind}" if self.precision == BINARY else self.kind,
            "precision": self.precision,
            "weights": self.weights,
            "macs": self.macs,
            "stored_bytes": self.stored_bytes,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel": list(self.kernel),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "trained": self.trained,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any], nbytes: int, traffic: int, kernels: Sequence[str]) -> Self:
        """The layer that `to_row` wrote, compiled. KeyError, TypeError or ValueError for another row."""
        kind = str(row["kind"]).removeprefix("binary ")
        if kind not in KINDS:
            raise ValueError(f"no layer is a {kind}")
        rows, columns = row["kernel"]
        return cls(
            name=str(row["name"]),
            kind=kind,
            precision=str(row["precision"]),
            weights=int(row["weights"]),
            macs=int(row["macs"]),
            in_channels=int(row["in_channels"]),
            out_channels=int(row["out_channels"]),
            kernel=(int(rows), int(columns)),
            inputs=int(row["inputs"]),
            outputs=int(row["outputs"]),
            nbytes=nbytes,
            traffic=traffic,
            kernels=tuple(kernels),
            trained=bool(row["trained"]),
            role=row["role"],
            stage=str(row["stage"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; `binary` beside the precision, for programs that ask only that."""
        return {
            "name": self.name,
            "stage": self.stage,
            "role": self.role,
            "kind": self.kind,
            "precision": self.precision,
            "binary": self.precision == BINARY,
            "weights": self.weights,
            "macs": self.macs,
            "bit_operations": self.bit_operations,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel": list(self.kernel),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "bytes": self.nbytes,
            "activation_bytes": self.traffic,
            "kernels": list(self.kernels),
            "ms": self.ms,
        }


@dataclass(frozen=True)
class Operations:
    """The three conventions side by side; `paper` in operations, the others as the module's text says."""

    paper: float
    bit_operations: int
    macs_1bit: int
    macs_8bit: int
    macs_float: int

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return {
            "paper": self.paper,
            "bit_operations": self.bit_operations,
            "macs_1bit": self.macs_1bit,
            "macs_8bit": self.macs_8bit,
            "macs_float": self.macs_float,
        }


@dataclass(frozen=True)
class Costs:
    """A network in one form: its layers, the scheme it was made binary by ("float": not at all), and the parameters
    outside its layers' weights (norms and biases; 0 where they are folded into the layers)."""

    layers: tuple[Layer, ...]
    scheme: str = "float"
    other_parameters: int = 0

    def by_precision(self, what: Callable[[Layer], int]) -> dict[str, int]:
        """Sums of `what` by precision; every precision is there."""
        sums = dict.fromkeys(PRECISIONS, 0)
        for layer in self.layers:
            sums[layer.precision] += what(layer)
        return sums

    def weights(self) -> dict[str, int]:
        """Weights by precision."""
        return self.by_precision(lambda layer: layer.weights)

    def macs(self) -> dict[str, int]:
        """MACs by precision."""
        return self.by_precision(lambda layer: layer.macs)

    @property
    def layer_bytes(self) -> int:
        """What all layers keep in the file."""
        return sum(layer.nbytes for layer in self.layers)

    def by_stage(self, what: Callable[[Layer], float]) -> dict[str, float]:
        """Sums of `what` by stage, in the order of their first layers."""
        sums: dict[str, float] = {}
        for layer in self.layers:
            sums[layer.stage] = sums.get(layer.stage, 0) + what(layer)
        return sums

    def operations(self) -> Operations:
        """This network in the three conventions."""
        macs = self.macs()
        return Operations(
            paper=paper_operations(self.layers, self.scheme),
            bit_operations=sum(layer.bit_operations for layer in self.layers),
            macs_1bit=macs[BINARY],
            macs_8bit=macs[INT8],
            macs_float=macs[FLOAT16] + macs[FLOAT32],
        )


def counts_as_binary(layer: Layer) -> bool:
    """Whether the paper counts a layer as binary: linear layers it does not."""
    return layer.precision == BINARY and layer.kind != LINEAR


def paper_operations(layers: Iterable[Layer], scheme: str) -> float:
    """The paper's OPs. Element-wise: 1 per output element of the trunks' convolutions; in bidrn also of the
    transposed convolutions, and k times for a Fusion Down, whose k convolutions are averaged."""
    counted = [layer for layer in layers if layer.trained]
    binary = sum(layer.macs for layer in counted if counts_as_binary(layer))
    full = sum(layer.macs for layer in counted) - binary
    extra = sum(_elementwise(layer, scheme) for layer in counted) if binary else 0
    return full + binary / BINARY_OPERATION + extra


def _elementwise(layer: Layer, scheme: str) -> int:
    trunk = layer.role in ("stem", "core", "shortcut")
    if scheme != "bidrn":
        return layer.outputs if trunk else 0
    averaged = layer.in_channels // layer.out_channels if layer.role == "core" else 1
    return layer.outputs * max(averaged, 1) if trunk or layer.kind == TRANSPOSED else 0


def paper_parameters(layers: Iterable[Layer], parameters: int, scheme: str) -> tuple[int, float]:
    """(all parameters, the paper's count) of a network with `parameters` parameters in full precision.

    bnn adds nothing to them, reactnet one threshold per input channel of a binary convolution, bidrn the three
    numbers per channel of every RPReLU.
    """
    binary = [layer for layer in layers if counts_as_binary(layer)]
    extra = 0
    if scheme == "reactnet":
        extra = sum(layer.in_channels for layer in binary)
    elif scheme == "bidrn":
        extra = 3 * sum(layer.out_channels for layer in binary)
    weights = sum(layer.weights for layer in binary)
    return parameters + extra, parameters - weights + weights / BINARY_PARAMETER + extra
