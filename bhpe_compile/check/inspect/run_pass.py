"""One pass on one ONNX file.

The file is checked before and after. What the pass requires of earlier passes cannot be read off a file: it is
assumed, and told.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhpe_compile.compiler.plan import list_passes
from bhpe_compile.errors import BhpeError, InputError, UsageError, near
from bhpe_compile.reading import MalformedError
from bhpe_compile.reading_onnx import read_onnx

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from bhpe_compile.passes.base import Note, Pass
    from bhpe_compile.targets import Target


INITIALIZERS = 4
"""The first IR version of ONNX whose initializers need not be inputs."""


@dataclass(frozen=True)
class PassRun:
    """What one pass made of a file: the new file, whether the graph changed, and the pass's decisions."""

    content: bytes
    modified: bool
    notes: tuple[Note, ...]
    assumed: tuple[str, ...]


def run_pass(name: str, source: Path, target: Target | None = None) -> PassRun:
    """Run pass `name` of fold or lower on the ONNX file `source`.

    target: gives `choose-tiles` its table. UsageError: no such pass, or one of another kind of graph; InputError: the
    file is damaged, or no graph this pass can work on.
    """
    import onnx_ir

    from bhpe_compile.exchange.nodes import set_layers_of_file

    one = _find(name, target)
    model = onnx_ir.from_proto(_load(source))
    set_layers_of_file(model)
    try:
        result = one(model)
    except InputError as error:
        error.add_note(f"on {source}")
        raise
    except (
        BhpeError
    ) as error:  # inside a compilation a defect; here the file may lack what earlier passes ensure
        needed = f", which needs: {', '.join(one.requires)}" if one.requires else ""
        where = f" at {one.at}" if one.at else ""
        raise InputError(f"{source}: is no graph for pass {name}{needed} ({error}{where})") from error
    proto = onnx_ir.to_proto(result.graph)
    known = {entry.domain for entry in proto.opset_import}
    for domain in sorted({node.domain for node in proto.graph.node} - known):
        proto.opset_import.add(domain=domain, version=1)
    _check(proto, f"pass {name} left a graph that is no ONNX; this is a defect of the pass")
    return PassRun(
        bytes(proto.SerializeToString(deterministic=True)), result.modified, result.notes, one.requires
    )


def _find(name: str, target: Target | None) -> Pass[ir.Model]:
    from bhpe_compile.passes.fold import fold_passes
    from bhpe_compile.passes.lower import lower_passes
    from bhpe_compile.targets.tile import NO_TILES

    tiles, isa = (target.measured_tiles(), target.isa) if target is not None else (NO_TILES, None)
    runnable = {one.name: one for one in (*fold_passes({}, half=True), *lower_passes(tiles, isa))}
    if name in runnable:
        return runnable[name]
    others = {one.name for one in list_passes()}
    if name in others:
        raise UsageError(
            f"pass {name} works on the torch graph of a checkpoint, not on an ONNX file; "
            f"`compile MODEL --stop-after {name}` shows what it does"
        )
    raise UsageError(
        f"no pass is called {name!r}; {near(name, list(runnable), '`bhpe-compile passes` lists them')}"
    )


def _load(source: Path) -> onnx.ModelProto:
    try:
        proto = read_onnx(source)
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror or error}") from None
    except MalformedError as error:
        raise InputError(f"{source}: is no ONNX file ({error})") from None
    _check(proto, f"{source}: is no valid ONNX file")
    if proto.ir_version < INITIALIZERS:
        raise InputError(
            f"{source}: has ONNX's IR version {proto.ir_version}, where weights are inputs that may change; passes "
            f"need version {INITIALIZERS} or later: export it again, or take the weights out of its inputs"
        )
    return _with_shapes(proto)


def _with_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Passes ask for static shapes: where values have none they are inferred."""
    import onnx

    known = {info.name for info in (*proto.graph.value_info, *proto.graph.output)}
    if all(name in known for node in proto.graph.node for name in node.output):
        return proto
    return onnx.shape_inference.infer_shapes(proto)


def _check(proto: onnx.ModelProto, problem: str) -> None:
    import onnx

    checked: Any = proto
    try:
        onnx.checker.check_model(checked)
    except onnx.checker.ValidationError as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{problem} ({first})") from None
