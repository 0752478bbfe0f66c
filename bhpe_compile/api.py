"""The Python interface: what the commands do, as functions that take paths as text or `Path`.

Errors are those of `bhpe_compile.errors`; each says in one line what is wrong, where, and what to do.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bhpe_compile.compiler.options import INT8, WHEEL, CompileOptions, default_output, is_former_int8
from bhpe_compile.errors import InputError
from bhpe_compile.files import find_pictures
from bhpe_compile.reading import MalformedError, parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bhpe_compile.check.bisect import BisectResult
    from bhpe_compile.check.verify import VerificationResult
    from bhpe_compile.report.explain import Explanation
    from bhpe_compile.runtime import Model, Picture

AnyPath = str | os.PathLike[str]

__all__ = ["Artifact", "bisect", "compile_model", "load_artifact", "verify"]


class Artifact:
    """A compiled model: the folder `path`, of which every file's SHA-256 was checked.

    Neither torch nor TVM is imported by anything here but `bisect`.
    """

    def __init__(self, path: AnyPath) -> None:
        from bhpe_compile.artifact import check_artifact

        self.path = Path(path)
        self.manifest: dict[str, Any] = check_artifact(self.path)
        """manifest.json: target, inputs, outputs, passes, options, versions."""
        self.report: dict[str, Any] = self._read_report()
        """report.json: layers, steps, and every decision of every pass."""

    def _read_report(self) -> dict[str, Any]:
        from bhpe_compile.artifact.load import read_file

        report = self.path / "report.json"
        try:
            content = parse_json(read_file(self.path, self.manifest, report.name))
        except MalformedError as error:
            raise InputError(f"{report}: damaged ({error}); compile the model again") from None
        if not isinstance(content, dict):
            raise InputError(f"{report}: is no JSON object; compile the model again")
        return content

    def __repr__(self) -> str:
        return f"Artifact({str(self.path)!r}, target={self.target!r})"

    @property
    def target(self) -> str:
        """The name of the CPU it is compiled for."""
        return str(self.manifest["target"]["name"])

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the order of the C interface."""
        return tuple(port["name"] for port in self.manifest["outputs"])

    def open(self, threads: int = 1) -> Model:
        """The model in this process, as a context manager, for many runs. InputError when it is for another CPU."""
        from bhpe_compile.runtime import Model

        return Model(self.path, threads)

    def run(
        self,
        inputs: Picture | NDArray[Any] | AnyPath | Mapping[str, NDArray[Any]],
        threads: int = 1,
        box: Sequence[float] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Outputs by name for one picture: a frame uint8 [H, W, 3] or a file, with the person's `box`, or what
        `runtime.load_picture` gives; for the array of the first input, or for arrays by input name. For many pictures
        `open` it once."""
        with self.open(threads) as model:
            return model.run(os.fspath(inputs) if isinstance(inputs, os.PathLike) else inputs, box)

    def verify(self, **options: Any) -> VerificationResult:
        """`verify` of this artefact."""
        return verify(self.path, **options)

    def explain(self, *names: str) -> list[Explanation]:
        """Why layers are what they are. names: of layers, or patterns; none: all. UsageError for one that matches
        nothing."""
        from bhpe_compile.report.explain import Explainer

        explainer = Explainer.of(self.path)
        return [explainer.explain(name) for name in (explainer.match(names) if names else explainer.layers)]


def compile_model(
    model: AnyPath,
    *,
    target: str,
    output: AnyPath | None = None,
    scheme: str | None = None,
    keep_float: Sequence[str] = (),
    binarize: Sequence[str] = (),
    residual_tap: Literal["after", "before"] = "after",
    dense: Literal["int8", "fp32"] | None = None,
    residual: Literal["fp16", "fp32"] = "fp16",
    pair_safe: bool = False,
    calibrate: Sequence[AnyPath] = (),
    tiles: AnyPath | None = None,
    network: AnyPath | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    forms: Sequence[Literal["folder", "static", "wheel", "web"]] = (),
    force: bool = False,
    cache: bool = True,
    progress: Callable[[str, str, float], None] | None = None,
) -> Artifact:
    """Compile a checkpoint or an ONNX file and return the artefact; the options are those of `bhpe-compile compile`.

    output: the folder, by default dist/<model>-<target>. scheme: "bidrn", "bnn", "reactnet", "int8" or "float"; None is
    "bidrn", and warns where the checkpoint was not trained in its binary form; of an ONNX file "int8". It
    warns, too, where 8 bits move the outputs a lot.
    pair_safe: 8-bit weights in steps that AVX2 can multiply as bytes, in pairs.
    calibrate: pictures, or folders of them, or .npz files of an ONNX file's inputs. network: NAME[:PRESET], or a
    description (TOML). shapes: of inputs that an ONNX file leaves open. forms: what is built besides the folder.
    cache: machine code that was made before is used again. progress: called with (stage, step, fraction of the work
    done). Raises UsageError, InputError or ToolchainError; nothing is written then.
    """
    from bhpe_compile.artifact.wheel import write_wheel
    from bhpe_compile.compiler.compile import compile_model as compile_file
    from bhpe_compile.compiler.doors import door_of, kind_of_compilation
    from bhpe_compile.frontends.kinds import ONNX

    source = Path(model)
    said = scheme or (INT8 if door_of(source) == ONNX else "bidrn")
    if is_former_int8(said, dense):
        warnings.warn(
            'scheme="float" with dense="int8" is scheme="int8" now; the next version knows that only',
            DeprecationWarning,
            stacklevel=2,
        )
    folder = Path(output) if output is not None else default_output(source, target)
    options = CompileOptions(
        target=target,
        scheme=said,
        keep_float=tuple(keep_float),
        binarize=tuple(binarize),
        residual_tap=residual_tap,
        dense=dense,
        residual=residual,
        pair_safe=pair_safe,
        calibrate=find_pictures(Path(path) for path in calibrate),
        tiles=Path(tiles) if tiles is not None else None,
        network=None if network is None else os.fspath(network),
        shapes=tuple((name, tuple(shape)) for name, shape in (shapes or {}).items()),
        forms=tuple(forms),
        cache=cache,
    )
    kind = kind_of_compilation(source)
    result = compile_file(source, folder, options, force=force, observer=progress, kind=kind)
    if result.untrained and scheme is None:
        from bhpe_compile.compiler.agreement import describe

        warnings.warn(
            f"{source.name} was not trained in its binary form: against full precision it moves "
            f'{describe(result.agreement)}; distill it, or say scheme="int8"; scheme="bidrn" says that it is meant',
            stacklevel=2,
        )
    if result.moved_much:
        from bhpe_compile.compiler.agreement import describe

        warnings.warn(
            f"{source.name}: 8 bits move {describe(result.moved_much)}, which is a lot: calibrate on more of what the "
            'network will see, keep layers in float (keep_float), or say scheme="float"',
            stacklevel=2,
        )
    if WHEEL in forms:
        write_wheel(folder, folder.parent)
    return Artifact(folder)


def load_artifact(path: AnyPath) -> Artifact:
    """The artefact in the folder `path`. UsageError: no such folder; InputError: damaged, or no artefact."""
    return Artifact(path)


def verify(
    artifact: AnyPath,
    *,
    picture: AnyPath | None = None,
    pictures: Sequence[AnyPath] = (),
    model: AnyPath | None = None,
    calibrate: Sequence[AnyPath] = (),
) -> VerificationResult:
    """Whether an artefact computes what its network computes; `ok` of the result says so, `equal` whether every sign,
    level and box is the same.

    picture, pictures: others than the recorded one; folders stand for what is in them. model: the checkpoint or ONNX
    file it was compiled from; model.onnx is then made again, and its outputs are computed. calibrate: the pictures that
    it was compiled with.
    """
    from bhpe_compile.check.verify import verify as verify_artifact

    again = None
    if model is not None:
        from bhpe_compile.check.bisect.remake import Again

        chosen = find_pictures(Path(path) for path in calibrate)
        again = Again(Path(model), Path(artifact), chosen)
    shown = [Path(path) for path in (*(() if picture is None else (picture,)), *pictures)]
    return verify_artifact(
        Path(artifact),
        pictures=find_pictures(shown),
        network=again,
        same=again.same if again else None,
        original=again.original if again else None,
    )


def bisect(
    artifact: AnyPath,
    *,
    picture: AnyPath | None = None,
    model: AnyPath | None = None,
    repro: AnyPath | None = None,
    calibrate: Sequence[AnyPath] = (),
) -> BisectResult:
    """The first pass and the first node that differ from the reference; `culprit` of the result is None without any.

    model: the checkpoint or ONNX file, to begin there and not with model.onnx. repro: a folder for a minimal
    reproduction. calibrate: the pictures, or folders of them, that it was compiled with.
    """
    from bhpe_compile.check.bisect import bisect as bisect_artifact

    return bisect_artifact(
        Path(artifact),
        checkpoint=_path(model),
        picture=_path(picture),
        repro=_path(repro),
        calibrate=find_pictures(Path(path) for path in calibrate),
    )


def _path(path: AnyPath | None) -> Path | None:
    return Path(path) if path is not None else None
