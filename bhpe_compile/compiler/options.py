"""What a user can ask of one compilation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from bhpe_compile.passes.binarize import BinarizeOptions

MODEL_SUFFIXES = frozenset({".pt", ".pth", ".tar", ".safetensors", ".ckpt"})


@dataclass(frozen=True)
class CompileOptions:
    """What the user asked for. `scheme` None compiles the model as it is, in full precision.

    A checkpoint that is already binary keeps the options it was binarized with. `tiles` is a table of register tiles
    that replaces the target's own. `network` names the checkpoint's network, None: seen from its keys. `static` adds a
    library to link into a program, `embed_weights` puts the weights into the libraries, too. `dense` None: 8-bit beside
    binary layers, float in a network without any.
    """

    target: str
    scheme: str | None = "bidrn"
    keep_float: tuple[str, ...] = ()
    binarize: tuple[str, ...] = ()
    residual_tap: str = "after"
    dense: Literal["int8", "fp32"] | None = None
    residual: Literal["fp16", "fp32"] = "fp16"
    calibrate: tuple[Path, ...] = ()
    picture: Path | None = None
    tiles: Path | None = None
    network: str | None = None
    static: bool = False
    embed_weights: bool = False

    @property
    def is_binary(self) -> bool:
        """Whether layers are made binary here."""
        return self.scheme is not None

    @property
    def computes_int8(self) -> bool:
        """Whether full-precision convolutions compute with 8-bit integers."""
        return self.dense == "int8" or (self.dense is None and self.is_binary)

    @property
    def keeps_half(self) -> bool:
        """Whether residuals beside binary layers are stored as float16."""
        return self.is_binary and self.residual == "fp16"

    def binarize_options(self) -> BinarizeOptions:
        """What the options say to the binarize passes; they must name a binary scheme."""
        from bhpe_compile.passes.binarize import BinarizeOptions, get_scheme

        return BinarizeOptions(
            scheme=get_scheme(self.scheme or ""),
            keep_float=self.keep_float,
            binarize=self.binarize,
            residual_tap="before" if self.residual_tap == "before" else "after",
        )

    def to_dict(self) -> dict[str, Any]:
        """The options as the manifest records them (no paths: the same input gives the same bytes)."""
        return {
            "target": self.target,
            "scheme": self.scheme or "float",
            "keep_float": list(self.keep_float),
            "binarize": list(self.binarize),
            "residual_tap": self.residual_tap,
            "dense": "int8" if self.computes_int8 else "fp32",
            "residual": "fp16" if self.keeps_half else "fp32",
        }


def default_output(model: Path, target: str) -> Path:
    """dist/<model>-<target>; every suffix of a checkpoint is dropped (snapshot_6.pth.tar -> snapshot_6)."""
    name = model
    while name.suffix.lower() in MODEL_SUFFIXES:
        name = name.with_suffix("")
    return Path("dist") / f"{name.name}-{target}"
