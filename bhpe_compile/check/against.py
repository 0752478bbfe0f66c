"""How far a compiled model's outputs are from those of the network it was made of, on anybody's pictures.

No labels are needed, so it works for every network: `eval` measures millimetres of whole bodies only. The artefact runs
where `open_session` runs it; the network in PyTorch (a checkpoint, in full precision or binary as it was trained) or in
ONNX Runtime (an ONNX file). What is compared, and in which unit, is `compiler/agreement.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bhpe_compile.artifact.load import check_artifact
from bhpe_compile.artifact.manifest import is_imported
from bhpe_compile.check.bisect.remake import options_of
from bhpe_compile.compiler.agreement import KINDS, Compute, Movement, computed_by, measure_movement
from bhpe_compile.compiler.doors import kind_of_compilation
from bhpe_compile.compiler.imported import OnnxCompilation
from bhpe_compile.compiler.inputs import picture_inputs
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.errors import BudgetError, InputError, UsageError
from bhpe_compile.networks.interface import Interface
from bhpe_compile.runtime.open import open_session
from bhpe_compile.runtime.results import check_finite

Example = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Moved:
    """How far the outputs of an artefact are from its network's, by kind; `executed` says where the artefact ran."""

    artefact: Path
    executed: str
    movements: Mapping[str, Movement]


def measure_against(
    artefact: Path, model: Path, shown: Sequence[Path], tick: Callable[[str], None] = lambda _: None
) -> Moved:
    """Run the artefact and the network in `model` on every picture, or every example of an .npz, in `shown`.

    An artefact of a checkpoint may be compared with an ONNX file, which its network was distilled from. UsageError
    where an ONNX file's artefact is to be compared with a checkpoint, or nothing says how a picture becomes an input;
    InputError for damaged files, a network with other inputs or outputs, and outputs that are not finite.
    """
    manifest = check_artifact(artefact)
    interface = Interface.from_dict(manifest["network"])
    of_onnx = not kind_of_compilation(model).uses_torch
    if is_imported(manifest) and not of_onnx:
        raise UsageError(f"{model}: is a checkpoint, and {artefact} was made of an ONNX file: name that one")
    compute, examples = (_of_onnx if of_onnx else _of_checkpoint)(model, manifest, interface, shown)
    with open_session(artefact) as session:

        def compiled(example: Example) -> Mapping[str, NDArray[Any]]:
            outputs = session.execute(example).outputs
            check_finite(outputs)
            return outputs

        movements = measure_movement(compute, compiled, interface, examples, tick)
        executed = session.executed
    if not movements:
        raise InputError(f"{model}: has none of the outputs of {artefact}: it holds another network")
    return Moved(artefact, executed, movements)


def _of_onnx(
    model: Path, manifest: Mapping[str, Any], interface: Interface, shown: Sequence[Path]
) -> tuple[Compute, Iterator[Example]]:
    from bhpe_compile.exchange.runtime import Runner

    sizes = (manifest.get("options") or {}).get("shapes") or {}
    shapes = tuple((name, tuple(shape)) for name, shape in sizes.items())
    options = CompileOptions("x86", scheme="float", calibrate=tuple(shown), shapes=shapes)
    compilation = OnnxCompilation(options, model)
    compilation.interface = interface
    wanted = {port["name"]: tuple(port["shape"]) for port in manifest["inputs"]}
    if {name: shape for name, (shape, _) in compilation.network.initial.items()} != wanted:
        raise InputError(f"{model}: has other inputs than the artefact: it holds another network")
    return Runner(compilation.model.SerializeToString()).run, compilation.examples()


def _of_checkpoint(
    model: Path, manifest: Mapping[str, Any], interface: Interface, shown: Sequence[Path]
) -> tuple[Compute, Iterator[Example]]:
    from bhpe_compile.frontends.checkpoint import load_model

    said = options_of(manifest, tuple(shown))
    loaded = load_model(model, said.network)
    network = loaded.model if loaded.binarization is None else Compilation.of_loaded(loaded, said).graph
    return computed_by(network.eval()), (picture_inputs(interface, picture) for picture in shown)


LIMIT = re.compile(r"(?P<kind>[a-z]+)=(?P<value>\d+(\.\d+)?)(px|deg|degrees|%|m)?")


def parse_limit(text: str) -> tuple[str, float]:
    """`joints=2px`, `rotations=3`, `values=5%`: a kind of output and how far it may move, in the kind's unit."""
    match = LIMIT.fullmatch(text.strip())
    if match is None or match["kind"] not in KINDS:
        raise UsageError(f"{text!r} is no limit like joints=2px; kinds are {', '.join(KINDS)}")
    return match["kind"], float(match["value"])


def require_told(found: Sequence[Moved], limits: Mapping[str, float]) -> None:
    """UsageError for a limit on what no artefact puts out."""
    for kind in limits:
        if not any(kind in one.movements for one in found):
            there = ", ".join(dict.fromkeys(name for one in found for name in one.movements))
            raise UsageError(f"--max-moved {kind}: there are no {kind} among the outputs, only {there}")


def require_near(found: Sequence[Moved], limits: Mapping[str, float]) -> None:
    """BudgetError, naming everything that moves too far."""
    missed = [
        f"{one.artefact}: {kind} move by {one.movements[kind]}, and {limit:g} was allowed"
        for one in found
        for kind, limit in limits.items()
        if kind in one.movements and one.movements[kind].value > limit
    ]
    if missed:
        raise BudgetError("; ".join(missed))
