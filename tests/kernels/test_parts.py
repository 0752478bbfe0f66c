"""What the parts of a parallel kernel share, for geometries of every kind; `run` compares parts with the whole."""

from __future__ import annotations

from typing import Any

import pytest

from bhpe_compile.kernels import (
    BinaryConv2d,
    BinaryConvTranspose2d,
    DenseConv2d,
    DenseConvTranspose2d,
    Epilogue,
    Residual,
    binary_linear,
    tiling,
)
from bhpe_compile.targets.isa import VectorIsa
from tests.kernels.native import NATIVE
from tests.kernels.test_binary import check as check_binary
from tests.kernels.test_dense import check

BITS = Epilogue(bits=True, bits_border=1)

CASES: dict[str, tuple[str, Any]] = {
    "rows": ("rows", BinaryConv2d(1, 6, 5, 64, 72, 3, 1, 1, 1, BITS)),
    "rows of two maps": ("rows", BinaryConv2d(2, 5, 2, 64, 40, 3, 2, 1, 1, BITS)),
    "pixels of one long row": ("pixels", BinaryConv2d(1, 5, 7, 64, 72, 1, 1, 0, 0, Epilogue(bits=True))),
    "pixels of three long rows": ("pixels", BinaryConv2d(3, 7, 7, 64, 40, 1, 1, 0, 0, Epilogue())),
    "channels of a small map": ("channels", BinaryConv2d(1, 2, 2, 128, 328, 3, 1, 1, 1, BITS)),
    "channels of a linear layer": ("channels", binary_linear(1, 256, 520, Epilogue(bits=True))),
    "channels of two linear layers": ("channels", binary_linear(2, 64, 200, Epilogue(bits=True))),
    "channels of few": ("channels", binary_linear(1, 64, 8, Epilogue())),
    "rows of phases": ("rows", BinaryConvTranspose2d(1, 4, 3, 64, 40, 1, BITS)),
    "channels of phases": ("channels", BinaryConvTranspose2d(1, 2, 3, 64, 136, 1, BITS)),
    "dense rows": ("rows", DenseConv2d(2, 9, 7, 5, 24, 3, 2, 1, BITS)),
    "dense pixels": ("pixels", DenseConv2d(1, 5, 9, 16, 44, 1, 1, 0, Epilogue(activation="relu"))),
    "dense channels": ("channels", DenseConv2d(1, 2, 2, 33, 200, 3, 1, 1, BITS)),
    "dense channels, residual": (
        "channels",
        DenseConv2d(1, 1, 1, 40, 600, 1, 1, 0, Epilogue(Residual("same", 600), "rprelu", True, True, True)),
    ),
    "dense rows of phases": ("rows", DenseConvTranspose2d(1, 5, 3, 12, 24, BITS)),
    "dense channels of phases": ("channels", DenseConvTranspose2d(1, 1, 3, 12, 136, BITS)),
}


@pytest.mark.parametrize("isa", NATIVE)
@pytest.mark.parametrize("name", CASES)
def test_parts(isa: VectorIsa, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    units, kernel = CASES[name]
    seen = set()
    original = tiling.Work.__init__

    def note(self: tiling.Work, share: Any, chosen: Any) -> None:
        seen.add(chosen)
        original(self, share, chosen)

    monkeypatch.setattr(tiling.Work, "__init__", note)
    (check_binary if isinstance(kernel, BinaryConv2d | BinaryConvTranspose2d) else check)(kernel, isa, 4)
    assert seen == {units}
