"""WebAssembly with WASI: browsers, phones, plug-ins."""

from __future__ import annotations

from bhpe_compile.targets.isa import SIMD128
from bhpe_compile.targets.target import Target

TRIPLE = "wasm32-unknown-wasi"

WASM32 = Target(
    name="wasm32",
    summary="WebAssembly with 128-bit vectors and WASI (wasmtime, Node, browsers)",
    family="wasm32",
    triple=TRIPLE,
    llvm={"kind": "llvm", "mtriple": TRIPLE, "mcpu": "generic", "mattr": ["+simd128"]},
    isa=SIMD128,
    zig=("-target", "wasm32-wasi", "-mcpu=generic+simd128"),
    zig_driver=("-target", "wasm32-wasi", "-mcpu=generic+simd128"),
    emulator="wasmtime",
    requires=(),
    module="model.wasm",
    threads=False,
)

PRESETS = (WASM32,)
