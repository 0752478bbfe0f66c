"""What the user decides about binarization: the scheme, layers by name, where the local residual is tapped.

`to_dict` and `from_dict` are exact inverses. A checkpoint of a binarized network stores the dictionary, and
`binarize(float model, BinarizeOptions.from_dict(...))` rebuilds the graph that its state belongs to.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.layers.surrogate import Surrogate
from bhpe_compile.passes.binarize.scheme import BIDRN, Activation, Scheme

ResidualTap = Literal["after", "before"]

_CHOICES = {
    "activation": get_args(Activation),
    "surrogate": get_args(Surrogate),
    "residual_tap": get_args(ResidualTap),
}


@dataclass(frozen=True)
class BinarizeOptions:
    """`keep_float` and `binarize` are globs on layer paths; where both match, `keep_float` wins.

    `keep_float` names layers that do not become binary; `binarize` makes layers binary that the scheme leaves alone.
    `residual_tap`: the local residual starts "after" or "before" the Hardtanh in front of the sign.
    """

    scheme: Scheme = BIDRN
    keep_float: tuple[str, ...] = ()
    binarize: tuple[str, ...] = ()
    residual_tap: ResidualTap = "after"

    def __post_init__(self) -> None:
        if self.residual_tap not in _CHOICES["residual_tap"]:
            raise UsageError(f"residual tap {self.residual_tap!r}: must be after or before")

    def kept_by(self, path: str) -> str | None:
        """The first `keep_float` glob that matches `path`, or None."""
        return next((glob for glob in self.keep_float if fnmatchcase(path, glob)), None)

    def forced_by(self, path: str) -> str | None:
        """The first `binarize` glob that matches `path`, or None."""
        return next((glob for glob in self.binarize if fnmatchcase(path, glob)), None)

    def check_globs(self, paths: Iterable[str]) -> None:
        """Raise UsageError for a glob that matches none of the layer `paths`, naming near ones."""
        known = list(paths)
        for option, globs in (("--keep-float", self.keep_float), ("--binarize", self.binarize)):
            for glob in globs:
                if any(fnmatchcase(path, glob) for path in known):
                    continue
                near = difflib.get_close_matches(glob, known, n=3, cutoff=0.4)
                hint = f"near: {', '.join(near)}" if near else f"layers look like {', '.join(known[:3])}"
                raise UsageError(f"{option} {glob!r} matches no layer; {hint}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint or a manifest."""
        data = asdict(self)
        return data | {"keep_float": list(self.keep_float), "binarize": list(self.binarize)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BinarizeOptions:
        """Inverse of `to_dict`; InputError names the field that is unknown, missing or of a wrong kind."""
        _check_fields("binarize options", cls, data)
        scheme = _renamed(data["scheme"])
        _check_fields("binarize options: scheme", Scheme, scheme)
        for name in ("keep_float", "binarize"):
            globs = data[name]
            if not isinstance(globs, list | tuple) or not all(isinstance(glob, str) for glob in globs):
                raise InputError(f"binarize options: {name} must be a list of strings, not {globs!r}")
        return cls(
            scheme=Scheme(**scheme),
            keep_float=tuple(data["keep_float"]),
            binarize=tuple(data["binarize"]),
            residual_tap=data["residual_tap"],
        )


FORMER_FIELDS = {"binary_box_net": "binary_branches"}
"""What fields of a scheme were called in older checkpoints, and are called now."""


def _renamed(scheme: Any) -> Any:
    """A scheme's fields as they are called now."""
    if not isinstance(scheme, Mapping):
        return scheme
    return {FORMER_FIELDS.get(name, name): value for name, value in scheme.items()}


def _check_fields(where: str, kind: type[BinarizeOptions] | type[Scheme], data: object) -> None:
    if not isinstance(data, Mapping):
        raise InputError(f"{where}: a mapping is needed, not {type(data).__name__}")
    names = [field.name for field in fields(kind)]
    wrong = sorted(set(names) ^ {str(key) for key in data})
    if wrong:
        raise InputError(f"{where}: unknown or missing {', '.join(wrong)}; expected {', '.join(names)}")
    for name, value in data.items():
        if name in _CHOICES and value not in _CHOICES[name]:
            raise InputError(f"{where}: {name} {value!r} is none of {', '.join(_CHOICES[name])}")
        field = next(field for field in fields(kind) if field.name == name)
        if field.type in ("bool", "str") and type(value).__name__ != field.type:
            raise InputError(f"{where}: {name} must be a {field.type}, not {value!r}")
