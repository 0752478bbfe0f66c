"""The binarization schemes, as data: what a binary layer consists of, and which layers become binary.

    bidrn     local residuals, RPReLU, thresholds 0; core convolutions and branches binary, shortcuts float
    bnn       no local residual, Hardtanh, thresholds 0; core convolutions and shortcuts binary, branches float
    reactnet  bnn with learnable thresholds and RPReLU

These are the rows of the accounting table of BinaryHPE, arXiv 2311.14323. Its text leaves open whether
BiDRN learns thresholds; here they are fixed unless `learnable_threshold` says otherwise: at 0, and for a branch's
heat maps at their mean.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from bhpe_compile.errors import UsageError
from bhpe_compile.networks.layers.surrogate import Surrogate
from bhpe_compile.networks.network import Role

Activation = Literal["rprelu", "hardtanh"]


@dataclass(frozen=True)
class Scheme:
    """One way to binarize a network."""

    name: str
    learnable_threshold: bool = False
    local_residual: bool = True
    activation: Activation = "rprelu"
    binary_shortcuts: bool = False
    binary_branches: bool = True
    surrogate: Surrogate = "bireal"

    @property
    def binary_roles(self) -> frozenset[Role]:
        """Roles whose layers are made binary, shape permitting; stems and heads never are."""
        chosen: dict[Role, bool] = {
            "core": True,
            "shortcut": self.binary_shortcuts,
            "branch": self.binary_branches,
        }
        return frozenset(role for role, binary in chosen.items() if binary)


BIDRN = Scheme("bidrn")
BNN = Scheme(
    "bnn",
    local_residual=False,
    activation="hardtanh",
    binary_shortcuts=True,
    binary_branches=False,
    surrogate="ste",
)
REACTNET = Scheme(
    "reactnet", learnable_threshold=True, local_residual=False, binary_shortcuts=True, binary_branches=False
)

SCHEMES: dict[str, Scheme] = {scheme.name: scheme for scheme in (BIDRN, BNN, REACTNET)}


def get_scheme(name: str) -> Scheme:
    """Return the preset `name`; UsageError with the nearest name where there is none."""
    if name in SCHEMES:
        return SCHEMES[name]
    near = difflib.get_close_matches(name, SCHEMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"unknown scheme {name!r}: known are {', '.join(SCHEMES)}{hint}")
