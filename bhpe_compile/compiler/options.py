"""What a user can ask of one compilation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bhpe_compile.errors import UsageError

if TYPE_CHECKING:
    from bhpe_compile.passes.binarize import BinarizeOptions

MODEL_SUFFIXES = frozenset({".pt", ".pth", ".tar", ".safetensors", ".ckpt", ".onnx"})

BINARY_SCHEMES = ("bidrn", "bnn", "reactnet")
"""What makes layers binary; `passes/binarize/scheme.py` says how."""

INT8, FLOAT = "int8", "float"
SCHEMES = (*BINARY_SCHEMES, INT8, FLOAT)

ARRAYS = ".npz"
"""The suffix of files that hold arrays."""

FOLDER, STATIC, WHEEL, WEB = "folder", "static", "wheel", "web"
FORMS = (FOLDER, STATIC, WHEEL, WEB)
"""What can be built: the folder, always; a library to link into a program in it; a Python package beside it; a package
for browsers and Node in it, with a page."""


@dataclass(frozen=True)
class CompileOptions:
    """What the user asked for.

    scheme: one of `BINARY_SCHEMES` ("bidrn", "bnn", "reactnet") makes layers binary; "int8" makes none binary and
    computes convolutions with 8 bits; "float" computes in float32. dense: how convolutions that are not binary compute,
    None as the scheme has it: "int8", or "fp32" with the scheme "float". tiles: a table of register tiles that replaces
    the target's own. forms: of `FORMS`, the folder is always built. embed_weights: puts the weights into the libraries,
    too.
    pair_safe: 8-bit weights have steps so wide that AVX2 can multiply pairs of them as bytes; they are the same for
    every target. shapes: of inputs that an ONNX file leaves open, by name.
    network: names the checkpoint's network, None: seen from its keys. cache: machine code that was made before is used
    again; the result is the same.
    UsageError for an unknown scheme, and for one that contradicts `dense`.
    """

    target: str
    scheme: str = "bidrn"
    keep_float: tuple[str, ...] = ()
    binarize: tuple[str, ...] = ()
    residual_tap: str = "after"
    dense: Literal["int8", "fp32"] | None = None
    residual: Literal["fp16", "fp32"] = "fp16"
    calibrate: tuple[Path, ...] = ()
    picture: Path | None = None
    tiles: Path | None = None
    network: str | None = None
    forms: tuple[str, ...] = ()
    embed_weights: bool = False
    pair_safe: bool = False
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    cache: bool = True

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            near = get_close_matches(self.scheme, SCHEMES, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"unknown scheme {self.scheme!r}: known are {', '.join(SCHEMES)}{hint}")
        if (self.scheme, self.dense) == (INT8, "fp32"):
            raise UsageError(
                "--scheme int8 --dense fp32 contradict each other: say --scheme float for float32"
            )
        if self.pair_safe and not self.computes_int8:
            raise UsageError("--pair-safe is for 8-bit weights, and there are none: leave it out")
        if is_former_int8(self.scheme, self.dense):
            object.__setattr__(self, "scheme", INT8)

    @property
    def is_binary(self) -> bool:
        """Whether layers are made binary here."""
        return self.scheme in BINARY_SCHEMES

    @property
    def computes_int8(self) -> bool:
        """Whether convolutions that are not binary compute with 8-bit integers."""
        return self.scheme != FLOAT and self.dense != "fp32"

    @property
    def keeps_half(self) -> bool:
        """Whether residuals beside binary layers are stored as float16."""
        return self.is_binary and self.residual == "fp16"

    def binarize_options(self) -> BinarizeOptions:
        """What the options say to the binarize passes; they must name a binary scheme."""
        from bhpe_compile.passes.binarize import BinarizeOptions, get_scheme

        return BinarizeOptions(
            scheme=get_scheme(self.scheme),
            keep_float=self.keep_float,
            binarize=self.binarize,
            residual_tap="before" if self.residual_tap == "before" else "after",
        )

    def for_trained(self, source: str, binarization: Mapping[str, Any]) -> CompileOptions:
        """These options for a checkpoint that is binary already: with its own scheme and residual tap.

        source: its name; binarization: what it was binarized with. UsageError for options that choose layers anew.
        """
        if self.keep_float or self.binarize:
            raise UsageError(
                f"{source}: is binary already, its layers were chosen when it was made; "
                "leave out --keep-float and --binarize"
            )
        if not self.is_binary:
            raise UsageError(
                f"{source}: is binary already; --scheme {self.scheme} is for full-precision checkpoints"
            )
        scheme = binarization.get("scheme")
        name = scheme.get("name") if isinstance(scheme, Mapping) else None
        if name not in BINARY_SCHEMES:  # a scheme of somebody's own: the checkpoint holds all of it
            return self
        tap = binarization.get("residual_tap", self.residual_tap)
        return replace(self, scheme=name, residual_tap=tap)

    def to_dict(self) -> dict[str, Any]:
        """The options as the manifest records them (no paths: the same input gives the same bytes)."""
        return {
            "target": self.target,
            "scheme": self.scheme,
            "keep_float": list(self.keep_float),
            "binarize": list(self.binarize),
            "residual_tap": self.residual_tap,
            "dense": "int8" if self.computes_int8 else "fp32",
            "residual": "fp16" if self.keeps_half else "fp32",
            "pair_safe": self.pair_safe,
        }


def is_former_int8(scheme: str, dense: str | None) -> bool:
    """Whether these words are how the scheme "int8" was asked for before it had a name."""
    return scheme == FLOAT and dense == "int8"


def default_output(model: Path, target: str) -> Path:
    """dist/<model>-<target>; every suffix of a checkpoint is dropped (snapshot_6.pth.tar -> snapshot_6)."""
    name = model
    while name.suffix.lower() in MODEL_SUFFIXES:
        name = name.with_suffix("")
    return Path("dist") / f"{name.name}-{target}"
