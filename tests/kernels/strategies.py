"""Random kernel geometries for hypothesis; small, so that the NumPy references stay cheap."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from bhpe_compile.kernels import BinaryConv2d, BinaryConvTranspose2d, DenseConv2d, Epilogue, Residual

CHANNELS = st.sampled_from([8, 16, 24, 40, 64, 72, 96])


@st.composite
def epilogues(draw: st.DrawFn, channels: int, *, plain: bool = False, bits: bool = True) -> Epilogue:
    """An epilogue for `channels` outputs; `plain` has nothing but the outputs themselves."""
    store = draw(st.booleans()) if bits else True
    packed = bits and (not store or draw(st.booleans()))
    outputs: dict[str, Any] = {
        "store": store,
        "bits": packed,
        "bits_border": draw(st.integers(0, 2)) if packed else 0,
        "bits_at_zero": packed and draw(st.booleans()),
    }
    if plain:
        return Epilogue(**outputs)
    residual = None
    kind = draw(st.sampled_from(["none", "same", "repeat", "group_mean"]))
    if kind == "same":
        residual = Residual("same", channels, draw(st.booleans()), draw(st.booleans()))
    elif kind == "repeat":
        parts = draw(st.sampled_from([k for k in (1, 2, 4) if channels % (k * (8 if packed else 1)) == 0]))
        residual = Residual("repeat", channels // parts, draw(st.booleans()), draw(st.booleans()))
    elif kind == "group_mean":
        residual = Residual("group_mean", channels * draw(st.integers(1, 4)), draw(st.booleans()), True)
    return Epilogue(
        residual=residual,
        activation=draw(st.sampled_from(["none", "relu", "rprelu", "leaky"])),
        shortcut=draw(st.booleans()),
        **outputs,
    )


@st.composite
def windows(draw: st.DrawFn, largest: int) -> dict[str, int]:
    """Height, width, kernel, stride and padding that leave at least one output."""
    kernel = draw(st.integers(1, largest))
    padding = draw(st.integers(0, min(kernel - 1, 3)))
    least = max(1, kernel - 2 * padding)
    return {
        "height": draw(st.integers(least, least + 5)),
        "width": draw(st.integers(least, least + 14)),
        "kernel": kernel,
        "stride": draw(st.integers(1, 2)),
        "padding": padding,
    }


@st.composite
def binary_convs(draw: st.DrawFn, *, plain: bool) -> BinaryConv2d:
    """Binary convolutions up to 4x4, input channels of any number."""
    window = draw(windows(4))
    channels = draw(st.one_of(CHANNELS, st.integers(1, 90)))
    return BinaryConv2d(
        batch=draw(st.integers(1, 2)),
        in_channels=draw(st.one_of(st.integers(1, 70), st.sampled_from([128, 256, 281]))),
        out_channels=channels,
        in_border=window["padding"] + draw(st.integers(0, 1)),
        epilogue=draw(epilogues(channels, plain=plain, bits=channels % 8 == 0)),
        **window,
    )


@st.composite
def binary_deconvs(draw: st.DrawFn, *, plain: bool) -> BinaryConvTranspose2d:
    """Binary transposed convolutions."""
    channels = draw(st.one_of(CHANNELS, st.integers(1, 90)))
    return BinaryConvTranspose2d(
        batch=draw(st.integers(1, 2)),
        height=draw(st.integers(1, 4)),
        width=draw(st.integers(1, 9)),
        in_channels=draw(st.integers(1, 70)),
        out_channels=channels,
        in_border=draw(st.integers(1, 2)),
        epilogue=draw(epilogues(channels, plain=plain, bits=channels % 8 == 0)),
    )


@st.composite
def dense_convs(draw: st.DrawFn) -> DenseConv2d:
    """Float convolutions up to 7x7; output channels of any number where no bits are written."""
    channels = draw(st.one_of(CHANNELS, st.integers(1, 90)))
    return DenseConv2d(
        batch=draw(st.integers(1, 2)),
        in_channels=draw(st.integers(1, 20)),
        out_channels=channels,
        epilogue=draw(epilogues(channels, bits=channels % 8 == 0)),
        weight_dtype=draw(st.sampled_from(["float16", "float32"])),
        **draw(windows(7)),
    )
