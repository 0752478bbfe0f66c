"""What report and manifest tell about a compilation besides its result; no paths, so that bytes repeat."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bhpe_compile import __version__

if TYPE_CHECKING:
    from bhpe_compile.compiler.options import CompileOptions
    from bhpe_compile.frontends.checkpoint import LoadedModel

TOOL_PACKAGES = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxsim", "apache-tvm", "ziglang", "numpy")


def describe(
    loaded: LoadedModel, options: CompileOptions, calibration: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Facts about the model and the options; `calibration` says where the ranges of 8-bit layers are from."""
    return {
        "model": {
            "preset": loaded.preset.name,
            "layout": loaded.layout,
            "binarization": loaded.binarization,
            "ignored_keys": list(loaded.ignored),
        },
        "options": options.to_dict(),
        "calibration": calibration,
    }


def versions() -> dict[str, str]:
    """This program and the packages that shape its output."""
    return {"bhpe-compile": __version__, **{name: version(name) for name in TOOL_PACKAGES}}
