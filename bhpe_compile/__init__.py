"""bhpe-compile: export and quantization tool chain for 3D human pose and shape networks.

The commands, from Python:

    import bhpe_compile

    artifact = bhpe_compile.compile_model("model.pt", target="x86")
    outputs = artifact.run(image)                     # float32 [1, 3, 512, 384] -> arrays by name
    assert bhpe_compile.verify(artifact.path).ok

    artifact = bhpe_compile.load_artifact("dist/model-x86")
    print(artifact.explain("backbone.layer1.*"))

Importing this package imports nothing else: what is heavy is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bhpe_compile.api import Artifact, bisect, compile_model, load_artifact, verify
    from bhpe_compile.errors import (
        BhpeError,
        BudgetError,
        InputError,
        ToolchainError,
        UsageError,
        VerificationError,
    )

__all__ = [
    "Artifact",
    "BhpeError",
    "BudgetError",
    "InputError",
    "ToolchainError",
    "UsageError",
    "VerificationError",
    "bisect",
    "compile_model",
    "load_artifact",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Names of `__all__` are imported when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(
        import_module("bhpe_compile.errors" if name.endswith("Error") else "bhpe_compile.api"), name
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
