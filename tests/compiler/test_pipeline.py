"""`compile_model` on the tiny network: what it writes, what it says, and that every scheme gives a right artefact.

Each compilation is made once and only read by the tests.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from bhpe_compile.check.verify import verify
from bhpe_compile.compiler import code_cache
from bhpe_compile.compiler.compile import compile_graph, compile_model
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.compiler.plan import list_passes
from bhpe_compile.compiler.progress import STAGES, Progress
from bhpe_compile.compiler.record import describe, versions
from bhpe_compile.compiler.result import CompileResult
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.exchange.runtime import runtime
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.networks.hand4whole.initialise import initialise
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import TINY
from bhpe_compile.networks.layers.resnet import BasicBlock, Bottleneck
from bhpe_compile.passes.binarize import (
    BinarizeOptions,
    RoundStorage,
    binarize,
    binarize_passes,
    freeze,
    trace,
)
from bhpe_compile.passes.binarize.round_storage import kept_maps
from tests.command import FILES
from tests.kept import KeptPair

KEPT = "backbone.layer1.0.conv1"
"""A layer every scheme makes binary unless told otherwise."""

OPTIONS: dict[str, CompileOptions] = {
    "bidrn": CompileOptions("x86"),
    "float": CompileOptions("x86", scheme="float"),
    "int8": CompileOptions("x86", scheme="int8"),
    "bnn": CompileOptions("x86", scheme="bnn"),
    "reactnet": CompileOptions("x86", scheme="reactnet", keep_float=("backbone.layer1.0.*",)),
}

Event = tuple[str, str, float]


class Compilations:
    """Compiles on demand, each of `OPTIONS` at most once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = folder / "model.pt"
        self.model = initialise(Hand4Whole(TINY), 1)
        save_model(self.source, self.model, "hand4whole:tiny")
        self.events: dict[str, list[Event]] = {}
        self._done: dict[str, CompileResult] = {}

    def __call__(self, name: str) -> CompileResult:
        if name not in self._done:
            events = self.events[name] = []
            self._done[name] = compile_model(
                self.source, self.folder / name, OPTIONS[name], observer=lambda *event: events.append(event)
            )
        return self._done[name]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compilations:
    return Compilations(tmp_path_factory.mktemp("pipeline"))


def weighted(model: nn.Module) -> set[str]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return {name for name, module in model.named_modules() if isinstance(module, kinds)}


def content(result: CompileResult, name: str) -> bytes:
    return (result.output / name).read_bytes()


def precisions(result: CompileResult) -> dict[str, str]:
    return {layer["name"]: layer["precision"] for layer in result.report["layers"]}


def test_files_and_manifest(compiled: Compilations) -> None:
    result = compiled("bidrn")
    assert result.output == compiled.folder / "bidrn"
    assert sorted(path.name for path in result.output.iterdir()) == FILES
    manifest = json.loads(content(result, "manifest.json"))
    assert manifest["model"]["preset"] == "tiny"
    assert manifest["model"]["binarization"] is None
    assert manifest["options"] == OPTIONS["bidrn"].to_dict()
    assert manifest["target"]["name"] == "x86"
    assert set(manifest["files"]) == {*FILES} - {"manifest.json"}
    assert manifest["versions"] == versions()
    assert [port["name"] for port in manifest["inputs"]] == ["image"]


@pytest.mark.parametrize("name", ["bidrn", "float", "int8", "bnn"])
def test_the_manifest_lists_the_passes_that_ran_and_the_plan_foretold_them(
    compiled: Compilations, name: str
) -> None:
    result = compiled(name)
    passes = json.loads(content(result, "manifest.json"))["passes"]
    ran = [(one["stage"], one["name"]) for one in passes]
    assert ran == [(one.stage, one.name) for one in list_passes(OPTIONS[name])]
    stages = {stage for stage, _ in ran}
    assert stages == ({"binarize", "fold", "lower"} if OPTIONS[name].is_binary else {"fold", "lower"})
    assert (("fold", "quantize-dense") in ran) == (name != "float")
    assert (("fold", "half-residuals") in ran) == OPTIONS[name].is_binary
    for one in passes:
        notes = [note for note in result.notes if note.pass_name == one["name"]]
        assert one["applied"] == sum(note.applied for note in notes), one
        assert one["refused"] == sum(not note.applied for note in notes), one
    assert any(one["applied"] for one in passes)


def test_nothing_written_names_a_place_of_this_machine(compiled: Compilations) -> None:
    result = compiled("bidrn")
    for name in FILES:
        assert str(compiled.folder).encode() not in content(result, name), name


def test_reference_is_what_the_manifest_promises(compiled: Compilations) -> None:
    result = compiled("bidrn")
    manifest = json.loads(content(result, "manifest.json"))
    with np.load(result.output / "reference.npz") as arrays:
        assert set(arrays.files) == {p["name"] for p in (*manifest["inputs"], *manifest["outputs"])}
        assert arrays["image"].shape == (1, 3, 512, 384)
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files)


def test_every_layer_with_weights_is_in_exactly_one_binarize_note(compiled: Compilations) -> None:
    mine = {one.name for one in binarize_passes(BinarizeOptions())} - {"free-signs"}
    found = Counter(note.site for note in compiled("bidrn").notes if note.pass_name in mine)
    layers = weighted(compiled.model)
    assert {site for site in found if site in layers} == layers
    assert {found[site] for site in layers} == {1}
    assert all(note.reason for note in compiled("bidrn").notes)


def test_every_layer_is_computed_by_a_kernel_of_ours(compiled: Compilations) -> None:
    result = compiled("bidrn")
    steps = {
        s["layer"]: s["kind"]
        for s in result.report["steps"]
        if s["kind"].startswith(("Binary", "Dense", "Int8", "FixedPointLinear"))
    }
    assert set(steps) == set(precisions(result))
    kinds = {
        "binary": ("Binary",),
        "int8": ("Int8", "FixedPointLinear"),
        "float16": ("Dense",),
    }
    for layer, precision in precisions(result).items():
        assert steps[layer].startswith(kinds[precision]), layer


def test_report_totals(compiled: Compilations) -> None:
    result = compiled("bidrn")
    report = result.report
    layers = report["layers"]
    trunks = (14, 15, 8)  # body 7 blocks of two, hands 5 bottlenecks of three, face 4 blocks of two
    assert sum(layer["precision"] == "binary" for layer in layers) == sum(trunks) + 9  # the box net's
    size = report["bytes"]
    assert 0 < size["binary_weights"] + size["float16_weights"] <= size["weights_image"]
    assert size["weights_image"] <= len(content(result, "weights.bin"))
    for precision in ("binary", "float16"):
        chosen = [layer for layer in layers if layer["precision"] == precision]
        assert report["weights"][precision] == sum(layer["weights"] for layer in chosen)
        assert size[f"{precision}_weights"] == sum(layer["stored_bytes"] for layer in chosen)
    assert report["calls"]["kernels"] + report["calls"]["glue"] == len(report["steps"])


def test_report_is_json_and_is_the_file(compiled: Compilations) -> None:
    result = compiled("bidrn")
    assert json.loads(json.dumps(result.report, allow_nan=False)) == json.loads(
        content(result, "report.json")
    )


def test_observer_sees_all_stages_in_order(compiled: Compilations) -> None:
    compiled("bidrn")
    events = compiled.events["bidrn"]
    assert tuple(stage for stage, _ in groupby(stage for stage, _, _ in events)) == STAGES
    fractions = [fraction for _, _, fraction in events]
    assert fractions[0] == 0
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1
    named = {step for _, step, _ in events}
    assert {one.name for one in list_passes()} <= named
    assert tuple(compiled("bidrn").seconds) == STAGES


def test_a_binary_checkpoint_gives_the_same_network(compiled: Compilations, tmp_path: Path) -> None:
    """Made binary before it is saved or while it is compiled: the same model.onnx, which holds every weight.

    And a checkpoint keeps its own scheme, whatever the options say. What follows repeats byte for byte, see above.
    """
    path = tmp_path / "binary.pt"
    options = BinarizeOptions()
    save_model(path, binarize(compiled.model, options)[0], "hand4whole:tiny", options.to_dict())
    compilation = Compilation(OPTIONS["bnn"], path)
    assert compilation.onnx_bytes == content(compiled("bidrn"), "model.onnx")
    assert describe(compilation.loaded, OPTIONS["bnn"])["model"]["binarization"] == options.to_dict()


@pytest.mark.parametrize("name", ["bidrn", "float", "bnn", "reactnet"])
def test_every_scheme_is_verified(compiled: Compilations, name: str) -> None:
    result = verify(compiled(name).output)
    assert result.ok, result.first_difference
    assert result.binary_exact
    assert result.binary_layers == sum(p == "binary" for p in precisions(compiled(name)).values())
    assert (result.binary_layers == 0) == (name == "float")
    assert result.equal == (name != "float")
    assert bool(result.float_parts) == (name == "float")


def test_schemes_choose_what_they_say(compiled: Compilations) -> None:
    box, shortcut = "box_net.", "backbone.layer2.0.downsample.0"
    bidrn, bnn = precisions(compiled("bidrn")), precisions(compiled("bnn"))
    assert (bidrn[shortcut], bnn[shortcut]) == ("int8", "binary")
    assert "binary" in {p for name, p in bidrn.items() if name.startswith(box)}
    assert {p for name, p in bnn.items() if name.startswith(box)} == {"int8"}


def test_keep_float_keeps_the_layer_dense_and_says_so(compiled: Compilations) -> None:
    result = compiled("reactnet")
    found = precisions(result)
    kept = {name for name in found if name.startswith("backbone.layer1.0.")}
    assert KEPT in kept
    assert {found[name] for name in kept} == {"int8"}
    assert found["backbone.layer1.1.conv1"] == "binary"
    reasons = [note.reason for note in result.notes if note.site == KEPT and not note.applied]
    assert any("backbone.layer1.0.*" in reason for reason in reasons)


def refused(source: Path, output: Path, error: type[Exception], match: str, **options: Any) -> list[Event]:
    """What the observer had seen when `compile_model` refused."""
    events: list[Event] = []
    observe: Callable[..., None] = lambda *event: events.append(event)  # noqa: E731
    with pytest.raises(error, match=match):
        compile_model(source, output, CompileOptions(**{"target": "x86", **options}), observer=observe)
    return events


def test_a_foreign_folder_is_refused_before_any_work(compiled: Compilations, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert refused(compiled.source, tmp_path, UsageError, "not a compiled model") == []
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_missing_source_and_an_unknown_target_are_refused_before_any_work(
    compiled: Compilations, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert refused(tmp_path / "none.pt", out, UsageError, "no such file") == []
    assert refused(compiled.source, out, UsageError, "x87", target="x87") == []
    assert not out.exists()


def test_what_cannot_be_compiled_leaves_nothing_behind(compiled: Compilations, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint")
    refused(tmp_path / "bad.pt", out, InputError, "damaged")
    refused(compiled.source, out, UsageError, "matches no layer", keep_float=("nowhere.*",))
    refused(compiled.source, out, UsageError, "unknown scheme", scheme="bidr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pt"]


class Sinh(nn.Module):
    """An operation that the record does not know."""

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": torch.sinh(image)}


def test_torchs_exporter_is_told_of_in_a_note() -> None:
    events: list[Event] = []
    inputs = {"image": np.ones((1, 3, 4, 4), np.float32)}
    compilation = Compilation.of_graph(
        freeze(trace(Sinh())),
        inputs,
        CompileOptions("x86", scheme="float"),
        progress=Progress(lambda *event: events.append(event)),
    )
    assert compilation.exported is compilation.until("export").exported
    note = compilation.notes[0]
    assert (note.pass_name, note.site, note.applied) == ("onnx", "", False)
    assert note.reason.startswith("aten.sinh.default: it has no entry in the table: torch's exporter")
    assert ("export", "ONNX, by torch's exporter") in [event[:2] for event in events]
    assert compilation.records == []


class Trunk(nn.Module):
    """A network that is no Hand4Whole: one trunk, one output."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"features": self.backbone(image)}


def compile_trunk(compiled: Compilations, output: Path, target: str = "x86") -> CompileResult:
    graph, _ = binarize(Trunk(compiled.model.backbone), BinarizeOptions())
    inputs = {"image": np.random.default_rng(0).random((1, 3, 64, 96), np.float32)}
    return compile_graph(freeze(graph), inputs, output, CompileOptions(target))


def test_any_graph_compiles(compiled: Compilations, tmp_path: Path) -> None:
    result = compile_trunk(compiled, tmp_path / "trunk")
    assert tuple(result.seconds) == STAGES[2:]
    found = verify(result.output)
    assert found.ok, found.first_difference
    assert found.binary_layers > 0
    with pytest.raises(UsageError, match="did you mean x86"):
        compile_trunk(compiled, tmp_path / "other", "x87")


def test_again_in_one_process_gives_the_same_bytes(
    compiled: Compilations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Code that is made, made and kept, and found: the whole network in two processes is compared in
    tests/e2e/test_compile.py."""
    monkeypatch.setenv(code_cache.VARIABLE, code_cache.OFF)
    assert compile_trunk(compiled, tmp_path / "made").code[0] == 0
    monkeypatch.setenv(code_cache.VARIABLE, str(tmp_path / "code"))
    assert compile_trunk(compiled, tmp_path / "kept").code[0] == 0
    found, parts = compile_trunk(compiled, tmp_path / "found").code
    assert found == parts > 10
    for name in FILES:
        made, *others = ((tmp_path / one / name).read_bytes() for one in ("made", "kept", "found"))
        assert others == [made, made], name


def test_a_network_that_was_trained_again_needs_no_new_code(
    compiled: Compilations, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No worker is started: TVM is not even imported. What is found computes with the new weights."""
    trunk = Trunk(copy.deepcopy(compiled.model.backbone))
    inputs = {"image": np.random.default_rng(0).random((1, 3, 64, 96), np.float32)}
    outputs = []
    for name in ("first", "again"):
        graph, _ = binarize(trunk, BinarizeOptions())
        result = compile_graph(freeze(graph), inputs, tmp_path / name, CompileOptions("x86"))
        found = verify(result.output)
        assert found.ok, found.first_difference
        outputs.append(content(result, "weights.bin"))
        with torch.no_grad():
            for parameter in trunk.parameters():
                parameter.mul_(1 + 0.01 * torch.randn_like(parameter))
        monkeypatch.setattr(KeptPair, "run", lambda *_: pytest.fail("code was made"))
    assert result.code[0] == result.code[1] > 10
    assert outputs[0] != outputs[1]


class Normed(nn.Module):
    """A finite output may stand behind what is not: the sign of NaN is a bit."""

    def __init__(self, *, hidden: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 4, 1)
        self.hidden = hidden

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.norm(self.first(image))
        if self.hidden:
            x = torch.where(x > 0, 1.0, -1.0)
        return {"y": self.last(x)}


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("scheme", ["float", "int8"])
def test_what_is_not_finite_is_refused_with_its_layer(hidden: bool, scheme: str) -> None:
    network = Normed(hidden=hidden).eval()
    inputs = {"image": np.ones((1, 3, 8, 8), np.float32)}
    options = CompileOptions("x86", scheme=scheme)
    assert Compilation.of_graph(freeze(trace(network)), inputs, options).run.broken is None
    assert network.norm.running_var is not None
    network.norm.running_var[2] = -1
    with pytest.raises(InputError, match="layer norm: NaN or infinity"):
        _ = Compilation.of_graph(freeze(trace(network)), inputs, options).run


def test_an_input_that_is_not_finite_is_refused() -> None:
    graph = freeze(trace(Normed(hidden=False).eval()))
    inputs = {"image": np.full((1, 3, 8, 8), np.nan, np.float32)}
    with pytest.raises(InputError, match="input image: has NaN"):
        _ = Compilation.of_graph(graph, inputs, CompileOptions("x86", scheme="float")).run


class Divided(nn.Module):
    """NaN of an operation without parameters: 0 / 0 where a picture is one colour."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.first(image)
        return {"y": (x - x.mean()) / (image - image.mean()).abs().sum()}


def test_an_operation_that_gives_what_is_not_finite_is_named() -> None:
    graph = freeze(trace(Divided().eval()))
    inputs = {"image": np.zeros((1, 3, 8, 8), np.float32)}
    with pytest.raises(InputError, match="operation truediv: NaN or infinity, computed from finite inputs"):
        _ = Compilation.of_graph(graph, inputs, CompileOptions("x86", scheme="float")).run


TIMES = 2.0**15


def scaled_hands(model: Hand4Whole) -> Hand4Whole:
    """A network that computes the same, the residual stream of its hands' trunk `TIMES` larger: a power of two, so that
    nothing is rounded otherwise."""

    def reads(norm: nn.Module) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean *= TIMES
        norm.running_var.copy_((norm.running_var.double() + norm.eps) * TIMES**2 - norm.eps)

    def writes(norm: nn.Module) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        norm.weight *= TIMES
        norm.bias *= TIMES

    model = copy.deepcopy(model)
    with torch.no_grad():
        trunk = model.hand_roi_net.backbone
        writes(trunk.bn1)
        for block in trunk.modules():
            if isinstance(block, BasicBlock | Bottleneck):
                reads(block.bn1)
                writes(block.bn3 if isinstance(block, Bottleneck) else block.bn2)
                if block.downsample is not None:
                    reads(block.downsample[1])
                    writes(block.downsample[1])
        model.hand_position_net.conv[0].weight /= TIMES
        body, hand = model.body_rotation_net, model.hand_rotation_net
        for head in (body.lhand_conv, body.rhand_conv, hand.hand_conv):
            head[0].bias *= TIMES
            reads(head[1])
    return model


def test_feature_maps_that_float16_does_not_hold_stay_float32(compiled: Compilations, tmp_path: Path) -> None:
    """The values of the others are float16, and finite; what stays float32 is told."""
    source = tmp_path / "scaled.pt"
    save_model(source, scaled_hands(compiled.model), "hand4whole:tiny")
    plain, scaled = (Compilation(CompileOptions("x86"), path) for path in (compiled.source, source))
    names = kept_maps(scaled.graph)
    assert set(scaled.run.values) == set(names) == set(scaled.run.largest)
    halves, fewer = (_halves(one.folded) for one in (plain, scaled))
    wide = scaled.rounding.wide
    assert not plain.rounding.wide
    assert 0 < len(wide) < len(names) == len(halves) == len(fewer) + len(wide)
    values = _run(scaled.folded, scaled.inputs, fewer)
    assert all(np.isfinite(value).all() for value in values)
    told = [n.reason for n in scaled.notes if n.pass_name == "half-residuals" and not n.site]
    assert len(told) == 1
    assert told[0].startswith(f"{len(wide)} feature maps stay float32: ")
    rounded = RoundStorage(scaled.rounding.ranges, wide=wide)(copy.deepcopy(scaled.graph)).graph
    with torch.no_grad():
        outputs = rounded(*map(torch.from_numpy, scaled.inputs.values()))
    assert all(bool(torch.isfinite(value).all()) for value in outputs.values())


def test_a_network_of_eight_bits_does_not_depend_on_the_scale_of_a_trunk(
    compiled: Compilations, tmp_path: Path
) -> None:
    """Not even where the weights that take the scale away again are too small for float16."""
    source = tmp_path / "scaled.pt"
    save_model(source, scaled_hands(compiled.model), "hand4whole:tiny")
    options = CompileOptions("x86", scheme="int8")
    plain, scaled = (Compilation(options, path) for path in (compiled.source, source))
    names = list(plain.run.outputs)
    for one, other in zip(*(_run(each.folded, each.inputs, names) for each in (plain, scaled)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)  # 450 pixels, in float32


def _halves(model: ir.Model) -> list[str]:
    casts = [node for node in model.graph if node.op_type == "Cast"]
    return [
        value.name or "" for node in casts for value in node.outputs if value.dtype == ir.DataType.FLOAT16
    ]


def _run(model: ir.Model, inputs: Mapping[str, Any], names: list[str]) -> list[Any]:
    """Values of a model, as ONNX Runtime computes them."""
    proto = ir.to_proto(model)
    there = {output.name for output in proto.graph.output}
    proto.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in there
    )
    options = runtime().SessionOptions()
    options.log_severity_level = 3
    session = runtime().InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    return list(session.run(names, dict(inputs)))
