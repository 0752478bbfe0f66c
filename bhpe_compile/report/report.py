"""A report: one network before and after, from a preset, a checkpoint or an artefact.

A preset or checkpoint is counted on torch's meta device and what compiling would make of it is predicted; an
artefact is read, and its numbers are what its files hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bhpe_compile.artifact.manifest import products
from bhpe_compile.report.advice import Advice, Twin, advise
from bhpe_compile.report.artifact import Artifact, FilePart, read_artifact
from bhpe_compile.report.balance import balance_of
from bhpe_compile.report.cost import BINARY, FLOAT32, Costs, Layer
from bhpe_compile.targets import PRESETS, Target
from bhpe_compile.targets import isa as isas
from bhpe_compile.targets.isa import VectorIsa

if TYPE_CHECKING:
    from bhpe_compile.report.count import Accounting, Counted
    from bhpe_compile.runtime.timing import Timing

ISAS: Mapping[str, VectorIsa] = {isa.name: isa for isa in isas.ISAS}


@dataclass(frozen=True)
class Report:
    """Everything a report shows; `predicted` says that `after` was not compiled but foretold, `products` how 8-bit
    weights are multiplied, in words ("" without any).

    memory: bytes of the running model by purpose. latency: milliseconds {median, fastest, p90}. verification: what
    `verify --format json` prints. notes: decisions of passes, {pass_name, site, applied, reason}. trained_binary:
    whether the checkpoint was trained in its binary form, None where nobody knows. agreement: how far the compiled
    network is from the one in full precision, {kind: {value, unit, pictures}}.
    """

    name: str
    source: str
    network: str | None
    preset: str | None
    target: str
    before: Costs
    after: Costs
    predicted: bool
    products: str = ""
    paper: Accounting | None = None
    parts: tuple[FilePart, ...] = ()
    memory: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[Mapping[str, Any], ...] = ()
    advice: tuple[Advice, ...] = ()
    latency: Mapping[str, Any] | None = None
    verification: Mapping[str, Any] | None = None
    trained_binary: bool | None = None
    agreement: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def untrained(self) -> bool:
        """Whether it has binary layers that were not trained so."""
        return self.trained_binary is False and self.after.weights()[BINARY] > 0

    @property
    def files(self) -> dict[str, int]:
        """Sizes by file name; empty for what was not compiled."""
        from bhpe_compile.report.artifact import sizes

        return sizes(self.parts)

    @property
    def device_bytes(self) -> int | None:
        """Bytes of the files a board needs; None for what was not compiled."""
        from bhpe_compile.report.artifact import ON_DEVICE

        return sum(self.files.get(name, 0) for name in ON_DEVICE) if self.parts else None

    @property
    def before_bytes(self) -> int:
        """The original network in float32: every parameter 4 bytes."""
        return self.before.layer_bytes + 4 * self.before.other_parameters

    def to_json(self) -> dict[str, Any]:
        """Plain data; the paper's accounting under `original`, `compiled` and `published` as it always was."""
        paper = (
            self.paper.to_json() if self.paper else {"original": None, "compiled": None, "published": None}
        )
        return {
            **paper,
            "name": self.name,
            "source": self.source,
            "network": self.network,
            "preset": self.preset,
            "scheme": self.after.scheme,
            "target": self.target,
            "products": self.products or None,
            "predicted": self.predicted,
            "trained_binary": self.trained_binary,
            "agreement": {kind: dict(movement) for kind, movement in self.agreement.items()},
            "weights": {"before": self.before.weights(), "after": self.after.weights()},
            "macs": {"before": self.before.macs(), "after": self.after.macs()},
            "operations": {
                "before": self.before.operations().to_json(),
                "after": self.after.operations().to_json(),
            },
            "bytes": {
                "before": self.before_bytes,
                "layers": self.after.layer_bytes,
                "device": self.device_bytes,
                "files": self.files,
                "parts": [
                    {"file": p.file, "part": p.part, "layer": p.layer, "bytes": p.nbytes} for p in self.parts
                ],
            },
            "memory": dict(self.memory),
            "latency": None if self.latency is None else dict(self.latency),
            "layers": [layer.to_json() for layer in self.after.layers],
            "advice": [advice.to_json() for advice in self.advice],
            "notes": [dict(note) for note in self.notes],
            "verification": None if self.verification is None else dict(self.verification),
        }


def report_network(
    spec: str, scheme: str, target_name: str, dense: str | None, pair_safe: bool = False
) -> Report:
    """Count the network `spec` and predict its form by `scheme` ("int8", "float": nothing binary).

    spec: as `--network` says it. pair_safe: as in `CompileOptions`. UsageError for unknown names.
    """
    from bhpe_compile.report.count import count_network

    counted = count_network(spec)
    return _predicted(f"network {spec}", "network", counted, scheme, target_name, dense, pair_safe, None)


def report_checkpoint(
    path: Path,
    scheme: str,
    target_name: str,
    dense: str | None,
    pair_safe: bool = False,
    spec: str | None = None,
) -> Report:
    """Count the network of a checkpoint; one that is binary already keeps what it was trained as.

    Raises what `load_model` raises.
    """
    from bhpe_compile.frontends.checkpoint import load_model
    from bhpe_compile.report.count import count

    loaded = load_model(path, spec)
    counted = count(loaded.network, loaded.preset, loaded.interface)
    binary = loaded.binarization
    report = _predicted(path.name, "checkpoint", counted, scheme, target_name, dense, pair_safe, binary)
    return replace(report, trained_binary=binary is not None)


def _predicted(
    name: str,
    source: str,
    counted: Counted,
    scheme: str,
    target_name: str,
    dense: str | None,
    pair_safe: bool,
    binarization: Mapping[str, Any] | None,
) -> Report:
    from bhpe_compile.report.count import as_paper, binary_layers
    from bhpe_compile.report.predict import predict, trained_binary
    from bhpe_compile.targets import get_target

    target = get_target(target_name)
    target = target.in_pairs if pair_safe else target
    if binarization is None:
        binary = binary_layers(counted, scheme)
    else:
        scheme, binary = trained_binary(counted, binarization)
    dense = dense or ("fp32" if scheme == "float" else "int8")
    after = predict(counted, scheme, target, dense, binary)
    return Report(
        name=name,
        source=source,
        network=counted.network.name,
        preset=counted.preset,
        target=target.name,
        products=products(target.isa.int8.name, pair_safe) if dense == "int8" else "",
        before=counted.costs,
        after=after,
        predicted=True,
        paper=as_paper(counted, binary, scheme),
        advice=advise(after, target.isa, balance_of(target.llvm, target.isa)),
    )


def report_artifact(
    path: Path,
    *,
    timing: Timing | None = None,
    twins: Mapping[str, Twin] | None = None,
    verification: Mapping[str, Any] | None = None,
) -> Report:
    """What the artefact at `path` holds. Raises what `read_artifact` raises."""
    artifact = read_artifact(path)
    after = with_times(artifact.costs, timing)
    before, paper = _original(artifact)
    isa = isa_of(artifact)
    return Report(
        name=path.resolve().name,
        source="artefact",
        network=artifact.network,
        preset=artifact.preset,
        target=artifact.target,
        products=artifact.products,
        before=before,
        after=after,
        predicted=False,
        paper=paper,
        parts=artifact.parts,
        memory=artifact.memory,
        notes=artifact.notes,
        advice=advise(after, isa, balance_of(artifact.llvm, isa), twins) if isa else (),
        latency=latency_of(timing),
        verification=verification,
        trained_binary=artifact.report.get("trained_binary"),
        agreement=artifact.report.get("agreement") or {},
    )


def isa_of(artifact: Artifact) -> VectorIsa | None:
    """The vector unit an artefact was compiled for; None for one this version does not know."""
    target = target_of(artifact)
    return target.isa if target is not None else ISAS.get(str(artifact.manifest["target"].get("isa")))


def target_of(artifact: Artifact) -> Target | None:
    """The preset whose code an artefact holds, under whatever name, with its 8-bit instruction; None where this version
    has none."""
    same = (preset for preset in PRESETS.values() if dict(preset.llvm) == dict(artifact.llvm))
    int8 = artifact.manifest["target"].get("int8")
    return next((preset.multiplying(int8) for preset in same), None)


def with_times(costs: Costs, timing: Timing | None) -> Costs:
    """The same layers with the measured milliseconds of their steps."""
    if timing is None or not timing.steps:
        return costs
    times: dict[str, float] = {}
    for step in timing.steps:
        times[step.layer] = times.get(step.layer, 0.0) + step.ms
    return replace(costs, layers=tuple(replace(one, ms=times.get(one.name)) for one in costs.layers))


def latency_of(timing: Timing | None) -> dict[str, Any] | None:
    """What was measured of whole runs, and of steps that belong to no layer."""
    if timing is None:
        return None
    from bhpe_compile.targets.host import cpu_name

    whole = timing.whole
    return {
        "median_ms": whole.median,
        "fastest_ms": whole.fastest,
        "p90_ms": whole.p90,
        "rounds": timing.rounds,
        "threads": timing.threads,
        "cpu": cpu_name(),
    }


def _original(artifact: Artifact) -> tuple[Costs, Accounting | None]:
    """The network in full precision, or, of one that is not registered here, the same layers in float32."""
    from bhpe_compile.networks.registry import registered

    known = registered().get(artifact.network or "")
    if known is None or artifact.preset not in known.network.presets:
        return Costs(tuple(_float32(layer) for layer in artifact.costs.layers)), None
    from bhpe_compile.report.count import as_paper, count_network

    counted = count_network(f"{artifact.network}:{artifact.preset}")
    binary = frozenset(layer.name for layer in artifact.costs.layers if layer.precision == BINARY)
    return counted.costs, as_paper(counted, binary, artifact.costs.scheme)


def _float32(layer: Layer) -> Layer:
    traffic = 4 * (layer.inputs + layer.outputs)
    return replace(layer, precision=FLOAT32, nbytes=4 * layer.weights, traffic=traffic, kernels=(), ms=None)


def is_artifact(path: Path) -> bool:
    """Whether `path` can only be an artefact: checkpoints are files."""
    return path.is_dir()
