"""What report and manifest tell about a compilation besides its result; no paths, so that bytes repeat."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bhpe_compile import __version__

if TYPE_CHECKING:
    from bhpe_compile.compiler.agreement import Agreement
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.frontends.imported import Imported
    from bhpe_compile.frontends.onnx import OnnxNetwork
    from bhpe_compile.networks.layers.rounding import Ranges
    from bhpe_compile.passes.base import PassRecord

TOOL_PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxsim", "apache-tvm", "ziglang", "numpy")


def describe(
    loaded: Imported | None,
    options: CompileOptions,
    calibration: dict[str, Any] | None = None,
    agreement: Agreement | None = None,
) -> dict[str, Any]:
    """Facts about the model and the options; `calibration` says where the ranges of 8-bit layers are from, `agreement`
    how far the compiled network is from the one in full precision.

    loaded: None where a graph was compiled; the options that chose its binary layers, and whether it was trained with
    them, are not known then.
    """
    from bhpe_compile.compiler.agreement import to_json

    said = options.to_dict()
    if loaded is None:
        return {"options": {name: said[name] for name in ("target", "dense", "residual", "pair_safe")}}
    return {
        "model": {
            "network": loaded.network.name,
            "preset": loaded.preset,
            "layout": loaded.layout,
            "binarization": loaded.binarization,
            "ignored_keys": list(loaded.ignored),
        },
        "options": said,
        "calibration": calibration,
        "trained_binary": loaded.binarization is not None,
        "agreement": to_json(agreement or {}),
    }


def describe_imported(
    network: OnnxNetwork,
    options: CompileOptions,
    calibration: dict[str, Any] | None,
    ranges: Ranges | None,
    agreement: Agreement,
) -> dict[str, Any]:
    """The same of an ONNX file. ranges: those that 8-bit layers were calibrated to, to make the model again with."""
    from bhpe_compile.compiler.agreement import to_json

    return {
        "model": {"format": "onnx", "opset": network.opset, "names": dict(network.names)},
        "options": {**options.to_dict(), "shapes": {name: list(shape) for name, shape in options.shapes}},
        "calibration": calibration,
        "agreement": to_json(agreement),
        **({} if ranges is None else {"ranges": {name: list(span) for name, span in ranges.items()}}),
    }


def passes_run(records: Iterable[tuple[str, PassRecord]]) -> list[dict[str, Any]]:
    """What ran, in order, of (stage, record): how many matches each pass applied and refused."""
    return [
        {
            "stage": stage,
            "name": record.name,
            "applied": sum(note.applied for note in record.notes),
            "refused": sum(not note.applied for note in record.notes),
        }
        for stage, record in records
    ]


def versions() -> dict[str, str]:
    """This program and the packages that shape its output."""
    return {"bhpe-compile": __version__, **{name: version(name) for name in TOOL_PACKAGES}}
