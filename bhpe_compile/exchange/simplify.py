"""onnxsim on the exported model: constants folded, shapes known everywhere.

It runs in a process of its own, because crashes are on its record; when it fails, the model goes on as it is. Batch
norms are kept: fused into convolutions they would turn +-1 weights into floats.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import onnx_ir as ir

from bhpe_compile.exchange.functions import DOMAIN, attach_bodies
from bhpe_compile.passes.base import Note

SECONDS = 300

_SCRIPT = """
import sys, onnx, onnxsim
model, ok = onnxsim.simplify(onnx.load(sys.argv[1]), skip_fuse_bn=True)
if not ok:
    sys.exit("the simplified model computes something else")
onnx.save(model, sys.argv[2])
"""


def simplify(model: ir.Model) -> tuple[ir.Model, tuple[Note, ...]]:
    """The simplified model and a note; the model itself, with the reason, where onnxsim fails."""
    before = _binary_nodes(model)
    with tempfile.TemporaryDirectory(prefix="bhpe-onnxsim-") as folder:
        source, target = Path(folder) / "in.onnx", Path(folder) / "out.onnx"
        ir.save(model, source)
        command = [sys.executable, "-c", _SCRIPT, str(source), str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return model, (_note(False, f"no answer in {SECONDS} s; the model goes on unsimplified"),)
        if done.returncode or not target.exists():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return model, (_note(False, f"{last}; the model goes on unsimplified"),)
        # read into memory: ir.load would keep pointing into the folder
        simplified = ir.from_proto(onnx.load(target))
    if _binary_nodes(simplified) != before:
        return model, (_note(False, "binary layers were lost; the model goes on unsimplified"),)
    attach_bodies(simplified)
    count = f"{len(model.graph)} nodes became {len(simplified.graph)}"
    return simplified, (_note(True, count),)


def _binary_nodes(model: ir.Model) -> list[tuple[str, str]]:
    return sorted((n.op_type, n.name or "") for n in model.graph if n.domain == DOMAIN)


def _note(applied: bool, reason: str) -> Note:
    return Note("onnxsim", "", applied, reason)
