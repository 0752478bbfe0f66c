"""How weights lie in memory, as arithmetic: what kernels/binary_layout, int8_layout and dense_layout build, counted.

    binary   [ceil(Cout / V)] [taps x ceil(Cin / word)] [V]     words of `word_bits` bits, V = `popcount_lanes`
    8-bit    [ceil(Cout / V)] [rows x ceil(kw x Cin / g)] [V g] bytes, V lanes of g products each
    float    [ceil(Cout / V)] [taps x Cin] [V]                  V = `float_lanes`, or 4 or 8 where that holds all

A transposed convolution k4 s2 p1 is four convolutions with 2x2 taps. Kept apart from the kernels because a report
imports neither TVM nor TIR; a test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass

from bhpe_compile.report.cost import BINARY, CONVOLUTION, FLOAT32, INT8, LINEAR, TRANSPOSED, Layer
from bhpe_compile.targets.isa import VectorIsa

FLOAT_BYTES = {FLOAT32: 4}
PHASES, PHASE_ROWS, PHASE_TAPS = 4, 2, 4


@dataclass(frozen=True)
class Packing:
    """The slots a layer's weights are packed into: input values, outputs, and the bits of one slot."""

    input_slots: int
    output_slots: int
    inputs: int
    outputs: int
    bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights."""
        return self.input_slots * self.output_slots * self.bits // 8

    @property
    def wasted(self) -> float:
        """The part of the slots, and so of the arithmetic, that holds no weight: 0 .. 1."""
        return 1 - self.inputs * self.outputs / (self.input_slots * self.output_slots)


def packing(layer: Layer, isa: VectorIsa) -> Packing:
    """How `layer` is packed for `isa` in its precision."""
    rows, columns = layer.kernel
    phases = 1
    if layer.kind == TRANSPOSED:
        phases, rows, columns = PHASES, PHASE_ROWS, PHASE_TAPS // PHASE_ROWS
    taps = rows * columns
    cin, cout = layer.in_channels, layer.out_channels
    if layer.kind == CONVOLUTION and layer.weights:
        cin = layer.weights // (taps * cout)  # of a group
    if layer.precision == BINARY:
        slots, lanes, bits = taps * _up(cin, isa.word_bits), isa.popcount_lanes, 1
    elif layer.precision == INT8:
        slots, lanes, bits = rows * _up(columns * cin, isa.int8.group), isa.int8.lanes, 8
    else:
        narrow = next((lanes for lanes in (4, 8) if cout <= lanes), isa.float_lanes)
        slots, lanes = taps * cin, min(isa.float_lanes, narrow)
        bits = 8 * FLOAT_BYTES.get(layer.precision, 2)
    return Packing(phases * slots, _up(cout, lanes), phases * taps * cin, cout, bits)


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def per_channel_bytes(layer: Layer, isa: VectorIsa, scheme: str) -> int:
    """Bytes of the constants beside the weights, float32 or int32 a channel, when none of them is shared.

    scale and bias always; RPReLU's slope and shift where the scheme has them, and the next sign's threshold, unless it
    is 0; a binary layer whose taps meet a border, its table; an 8-bit layer its start sums and, but
    for linear layers, the step of its input.
    """
    channels = layer.out_channels
    numbers = 2 * channels
    if layer.precision == BINARY:
        slope_and_shift = scheme in ("bidrn", "reactnet") and layer.kind != LINEAR
        numbers += (2 if slope_and_shift else 0) * channels + (0 if scheme == "bidrn" else channels)
        if layer.kind == TRANSPOSED:
            numbers += PHASES * 4 * channels
        elif layer.kernel != (1, 1):
            numbers += 9 * channels
    elif layer.precision == INT8:
        phases = PHASES if layer.kind == TRANSPOSED else 1
        numbers += 0 if layer.kind == LINEAR else 2
        numbers += phases * _up(channels, isa.int8.lanes) if isa.int8.shift is not None else 0
    return 4 * numbers
