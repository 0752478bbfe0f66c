"""What a layer is for, from structure: small graphs for each rule, golden lists and counts of whole networks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bhpe_compile.networks.cliff.module import CLIFF, BedlamCLIFF
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import PRESETS
from bhpe_compile.networks.hmr.module import HMR
from bhpe_compile.networks.layers.trunk import CSPNEXT, HRNET_W48
from bhpe_compile.networks.network import Role, Roles
from bhpe_compile.networks.rtmpose.module import RTMW, WHOLE_BODY_POINTS, RTMPose
from bhpe_compile.networks.vqhps.module import VQHPS
from bhpe_compile.passes.binarize import BinarizeOptions, binarize
from bhpe_compile.passes.binarize.roles import LAYERS, OUTPUT_LAYERS, find_roles, output_layers, role_of
from bhpe_compile.passes.binarize.sites import float_sites, owner
from bhpe_compile.passes.binarize.trace import trace


def roles(model: nn.Module, described: Roles = ()) -> dict[str, Role]:
    return find_roles(fx.symbolic_trace(model), described)


def conv(cin: int, cout: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)


def normed(cin: int, cout: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(cin, cout, kernel, stride), nn.BatchNorm2d(cout))


class Calls(nn.Module):
    """A forward pass given as a function of the module and its inputs, over layers given by name."""

    def __init__(self, forward: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.called = forward


def one_input(forward: Callable[[nn.Module, Tensor], object], **layers: nn.Module) -> nn.Module:
    class Net(Calls):
        def forward(self, x: Tensor) -> object:
            return self.called(self, x)

    return Net(forward, **layers)


def two_inputs(forward: Callable[[nn.Module, Tensor, Tensor], object], **layers: nn.Module) -> nn.Module:
    class Net(Calls):
        def forward(self, x: Tensor, y: Tensor) -> object:
            return self.called(self, x, y)

    return Net(forward, **layers)


def block(shortcut: Callable[[nn.Module, Tensor], Tensor], **layers: nn.Module) -> nn.Module:
    """Stem, then a residual block whose other path is `shortcut`, then ReLU and a linear head."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = torch.relu(net.stem(x))
        y = net.second(torch.relu(net.first(x)))
        return net.out(torch.relu(y + shortcut(net, x)).mean((2, 3)))

    made = {"stem": normed(3, 8), "first": normed(8, 8), "second": normed(8, 16), "out": nn.Linear(16, 4)}
    return one_input(forward, **made, **layers)


TRUNK: dict[str, Role] = {"stem.0": "stem", "first.0": "core", "second.0": "core", "out": "head"}


# ---- stem -------------------------------------------------------------------------------------------------


def test_every_layer_that_reads_inputs_only_is_a_stem() -> None:
    """Through scaling, pooling and concatenation with another input; a linear layer too."""

    def forward(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        both = torch.cat(((x - 0.5) / 0.2, functional.max_pool2d(y, 2)), 1)
        return net.later(torch.relu(net.first(both))).mean((2, 3)) + net.line(y.mean((2, 3)))

    net = two_inputs(forward, first=normed(6, 8), later=normed(8, 8), line=nn.Linear(3, 8))
    assert roles(net) == {"first.0": "stem", "later.0": "core", "line": "stem"}


def test_what_reads_constants_alone_is_no_stem() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Parameter(torch.zeros(1, 4))
            self.constant, self.first, self.both = nn.Linear(4, 4), nn.Linear(5, 4), nn.Linear(9, 4)

        def forward(self, x: Tensor) -> Tensor:
            with_start = torch.cat((x, self.start), 1)  # an input, and a constant beside it
            return self.both(with_start) + self.first(x) + self.constant(self.start)  # type: ignore[no-any-return]

    assert roles(Net()) == {"both": "stem", "first": "stem", "constant": "head"}


def test_a_crop_reads_its_first_argument_only() -> None:
    """Boxes come from a network, pixels from the picture: the second trunk begins at the picture."""
    from bhpe_compile.networks.layers.crop import crop as cut

    def forward(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
        features = torch.relu(net.first(x))
        boxes = net.boxes(features.mean((2, 3)))
        crop = cut(x, boxes, 4, 4)
        again = cut(features, boxes, 4, 4)
        return {"a": net.second(crop), "b": net.third(again)}

    net = one_input(
        forward, first=normed(3, 8), boxes=nn.Linear(8, 5), second=normed(3, 8), third=normed(8, 8)
    )
    assert roles(net) == {"first.0": "stem", "boxes": "head", "second.0": "stem", "third.0": "core"}


@pytest.mark.parametrize(
    "sample",
    [
        lambda x, grid: functional.grid_sample(x, grid, align_corners=False),
        lambda x, grid: torch.grid_sampler(x, grid, 0, 0, False),
    ],
    ids=["grid_sample", "grid_sampler"],
)
def test_a_sampled_picture_is_a_picture(sample: Callable[[Tensor, Tensor], Tensor]) -> None:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        grid = net.where(torch.relu(net.first(x)).mean((2, 3))).reshape(-1, 4, 4, 2)
        return net.second(sample(x, grid))

    net = one_input(forward, first=normed(3, 8), where=nn.Linear(8, 32), second=normed(3, 8))
    assert roles(net) == {"first.0": "stem", "where": "head", "second.0": "stem"}


# ---- shortcut ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "layers"),
    [
        (lambda net, x: net.short(x), {"short": conv(8, 16, 1)}),
        (lambda net, x: net.norm(net.short(x)), {"short": conv(8, 16, 1), "norm": nn.BatchNorm2d(16)}),
        (
            lambda net, x: net.norm(net.short(net.pool(x))),
            {"pool": nn.AvgPool2d(3, 1, 1), "short": conv(8, 16, 1), "norm": nn.BatchNorm2d(16)},
        ),
        (lambda net, x: net.short(functional.avg_pool2d(x, 3, 1, 1)), {"short": conv(8, 16, 1)}),
        (lambda net, x: net.short(functional.max_pool2d(x, 3, 1, 1)), {"short": conv(8, 16, 1)}),
        (lambda net, x: net.short(functional.adaptive_avg_pool2d(x, 8)), {"short": conv(8, 16, 1)}),
        (lambda net, x: functional.interpolate(net.short(x), scale_factor=1.0), {"short": conv(8, 16, 1)}),
        (lambda net, x: functional.dropout(net.short(x), 0.1), {"short": conv(8, 16, 1)}),
        (
            lambda net, x: functional.batch_norm(net.short(x), None, None, training=True),
            {"short": conv(8, 16, 1)},
        ),
        (lambda net, x: net.drop(net.short(x)), {"short": conv(8, 16, 1), "drop": nn.Dropout(0.1)}),
    ],
    ids=[
        *("bare", "normed", "pooled", "mean by a function", "maximum by a function"),
        *(
            "mean of all by a function",
            "enlarged",
            "dropped by a function",
            "normed by a function",
            "dropped",
        ),
    ],
)
def test_a_path_without_activation_beside_one_with_it(
    path: Callable[[nn.Module, Tensor], Tensor], layers: dict[str, nn.Module]
) -> None:
    assert roles(block(path, **layers)) == TRUNK | {"short": "shortcut"}


def test_two_layers_on_the_path_are_both_shortcuts() -> None:
    net = block(lambda net, x: net.b(net.a(x)), a=normed(8, 8, 1), b=normed(8, 16, 1))
    assert roles(net) == TRUNK | {"a.0": "shortcut", "b.0": "shortcut"}


def test_an_identity_needs_no_role() -> None:
    net = block(lambda net, x: net.same(x), same=nn.Identity())
    assert roles(net) == TRUNK


@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.PReLU(), nn.SiLU(), nn.GELU(), nn.Hardtanh(), nn.Sigmoid(), nn.Hardswish()]
)
def test_an_activation_on_the_path_makes_it_core(activation: nn.Module) -> None:
    net = block(lambda net, x: net.act(net.other(x)), other=normed(8, 16, 1), act=activation)
    assert roles(net) == TRUNK | {"other.0": "core"}


@pytest.mark.parametrize("name", ["relu", "relu_", "sigmoid", "tanh", "softmax"])
def test_an_activation_by_a_method_makes_it_core(name: str) -> None:
    net = block(lambda net, x: getattr(net.other(x), name)(), other=normed(8, 16, 1))
    assert roles(net) == TRUNK | {"other.0": "core"}


@pytest.mark.parametrize("name", ["relu", "relu_", "sigmoid", "tanh", "softmax"])
def test_a_path_beside_an_activation_by_a_method(name: str) -> None:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = torch.relu(net.stem(x))
        return net.out((getattr(net.first(x), name)() + net.short(x)).mean((2, 3)))

    net = one_input(
        forward, stem=normed(3, 8), first=normed(8, 8), short=normed(8, 8, 1), out=nn.Linear(8, 4)
    )
    assert roles(net)["short.0"] == "shortcut"


def test_two_linear_paths_are_both_core() -> None:
    """A sum of two convolutions of one tensor: neither has an activation, so neither goes around one."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = torch.relu(net.stem(x))
        return torch.relu(net.a(x) + net.b(x))

    net = one_input(forward, stem=normed(3, 8), a=normed(8, 8, 1), b=normed(8, 8))
    assert roles(net) == {"stem.0": "stem", "a.0": "core", "b.0": "core"}


def test_an_activation_before_both_paths_begin_does_not_count() -> None:
    """They begin at a sum; what stands before it is on neither path."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.stem(x)
        x = x + torch.relu(net.first(x))
        return torch.relu(net.a(x) + net.b(x))

    net = one_input(forward, stem=normed(3, 8), first=normed(8, 8), a=normed(8, 8, 1), b=normed(8, 8))
    assert roles(net) == {"stem.0": "stem", "first.0": "core", "a.0": "core", "b.0": "core"}


def test_exchange_between_branches_is_core() -> None:
    """HRNet's fusion: what is added starts at another branch, whose tensor the other path does not read."""

    def forward(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(net.stem(x))
        fine, coarse = torch.relu(net.fine(x)), torch.relu(net.coarse(x))
        up = functional.interpolate(net.up(coarse), scale_factor=2.0, mode="nearest")
        return torch.relu(fine + up), torch.relu(coarse + net.down(fine))

    net = one_input(
        forward,
        stem=normed(3, 8),
        fine=normed(8, 8),
        coarse=normed(8, 16, 3, 2),
        up=normed(16, 8, 1),
        down=normed(8, 16, 3, 2),
    )
    assert roles(net) == {"stem.0": "stem"} | {
        f"{name}.0": "core" for name in ("fine", "coarse", "up", "down")
    }


# ---- heads, and what is said ----------------------------------------------------------------------------


def test_what_computes_an_output_is_a_head() -> None:
    def forward(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu(net.first(torch.relu(net.stem(x))))
        return {"heat": net.heat(x), "line": net.line(x.mean((2, 3))), "up": net.up(x)}

    net = one_input(
        forward,
        stem=normed(3, 8),
        first=normed(8, 8),
        heat=conv(8, 4, 1),
        line=nn.Linear(8, 2),
        up=nn.ConvTranspose2d(8, 8, 4, 2, 1),
    )
    heads: dict[str, Role] = dict.fromkeys(("heat", "line", "up"), "head")
    assert roles(net) == {"stem.0": "stem", "first.0": "core"} | heads
    graph = trace(net)
    assert graph.meta[OUTPUT_LAYERS] == output_layers(graph) == frozenset(heads)
    assert role_of(graph, "first.0") == "core"
    assert role_of(graph, "added.later") == "head"


def test_a_norm_that_somebody_else_reads_too_makes_no_core() -> None:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        y = net.first(torch.relu(net.stem(x)))
        return net.norm(y) + y

    net = one_input(forward, stem=normed(3, 8), first=conv(8, 8), norm=nn.BatchNorm2d(8))
    assert roles(net)["first"] == "head"


def test_the_description_says_otherwise_by_name() -> None:
    """The first pattern that matches counts; what none matches is left to structure."""
    net = block(lambda net, x: net.short(x), short=conv(8, 16, 1))
    said: Roles = (("first.*", "head"), ("f*", "branch"), ("short", "core"))
    assert roles(net, said) == TRUNK | {"first.0": "head", "short": "core"}


def test_roles_stay_while_passes_rewrite_the_graph() -> None:
    net = block(lambda net, x: net.short(x), short=normed(8, 16, 1)).eval()
    before = trace(net)
    after, _ = binarize(before, BinarizeOptions())
    for path in TRUNK:
        assert role_of(after, path) == TRUNK[path]
    assert role_of(trace(after), "short.0") == "shortcut"


# ---- whole networks -------------------------------------------------------------------------------------

HAND4WHOLE: tuple[tuple[str, Role], ...] = (
    (r"(.+\.)?backbone\.conv1", "stem"),
    (r"(.+\.)?backbone\.layer\d\.\d\.conv\d", "core"),
    (r"(.+\.)?backbone\.layer\d\.\d\.downsample\.0", "shortcut"),
    (r"box_net\.(deconv|lhand_size|rhand_size|face_size)\.\d", "branch"),
    (r".+", "head"),
)
"""Roles of Hand4Whole's layers by their published names."""

COUNTS = {
    "full": {"stem": 3, "core": 112, "shortcut": 11, "branch": 9, "head": 14},
    "tiny": {"stem": 3, "core": 37, "shortcut": 10, "branch": 9, "head": 16},
}


@pytest.mark.parametrize("method", ["forward", "predict"])
@pytest.mark.parametrize("preset", PRESETS)
def test_hand4whole_by_name(preset: str, method: str) -> None:
    with torch.device("meta"):
        model = Hand4Whole(PRESETS[preset])
    graph = trace(model, method)
    layers = [name for name, layer in model.named_modules() if isinstance(layer, LAYERS)]
    golden = {
        name: next(role for pattern, role in HAND4WHOLE if re.fullmatch(pattern, name)) for name in layers
    }
    assert {name: role_of(graph, name) for name in layers} == golden
    assert Counter(golden.values()) == COUNTS[preset]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "hmr": HMR,
    "cliff-r50": CLIFF,
    "cliff-hr48": lambda: CLIFF(HRNET_W48),
    "bedlam-cliff": BedlamCLIFF,
    "vqhps": VQHPS,
    "rtmpose-m": lambda: RTMPose(CSPNEXT["m"], WHOLE_BODY_POINTS),
    "rtmw-m": lambda: RTMW(CSPNEXT["m"]),
}

KINDS = ("plain", "fusion-up", "fusion-down", "down-scale", "down-sample")


@cache
def convolutions(name: str) -> tuple[tuple[str, str, str], ...]:
    """(path, role, kind) of every convolution of a network; kind is "depthwise" or "none" beside those of `KINDS`."""
    with torch.device("meta"):
        graph = trace(NETWORKS[name]().eval())
    found = []
    for site in float_sites(graph):
        if isinstance(site.layer, nn.Conv2d):
            role = role_of(graph, site.path)
            graph.meta["bhpe.roles"][site.path] = "core"  # its kind, whatever it is for
            kind = "depthwise" if site.layer.groups > 1 else owner(graph, site)
            found.append((site.path, role, kind if kind != "remainder" else "none"))
    return tuple(found)


@pytest.mark.parametrize(
    ("name", "every", "without_kind", "core", "core_without_kind", "roles_of_others"),
    [
        ("hmr", (14, 17, 15, 3, 3), 1, (14, 16, 15, 3, 0), 0, {"stem": 1, "shortcut": 4}),
        ("cliff-r50", (14, 17, 15, 3, 3), 1, (14, 16, 15, 3, 0), 0, {"stem": 1, "shortcut": 4}),
        ("cliff-hr48", (217, 10, 34, 17, 36), 11, (217, 9, 34, 17, 36), 6, {"stem": 1, "shortcut": 5}),
        ("bedlam-cliff", (213, 5, 34, 23, 33), 3, (213, 4, 34, 23, 33), 2, {"stem": 1, "shortcut": 1}),
        ("vqhps", (426, 10, 68, 46, 66), 7, (426, 8, 68, 46, 66), 4, {"stem": 2, "shortcut": 2, "head": 1}),
        ("rtmpose-m", (33, 1, 10, 0, 5), 1, (29, 1, 10, 0, 4), 0, {"stem": 1, "head": 5}),
        ("rtmw-m", (54, 1, 20, 2, 5), 2, (50, 1, 20, 2, 4), 2, {"stem": 1, "head": 4}),
    ],
)
def test_golden_counts(
    name: str,
    every: tuple[int, ...],
    without_kind: int,
    core: tuple[int, ...],
    core_without_kind: int,
    roles_of_others: dict[str, int],
) -> None:
    """Dense convolutions by kind as papers and public code have them; then those that are core by structure.

    plain / fusion-up / fusion-down / down-scale / down-sample; depthwise ones are counted apart, and are core too.
    """
    dense = [one for one in convolutions(name) if one[2] != "depthwise"]
    kinds = Counter(kind for _, _, kind in dense)
    assert (tuple(kinds[kind] for kind in KINDS), kinds["none"]) == (every, without_kind)
    kinds = Counter(kind for _, role, kind in dense if role == "core")
    assert (tuple(kinds[kind] for kind in KINDS), kinds["none"]) == (core, core_without_kind)
    assert Counter(role for _, role, _ in dense if role != "core") == roles_of_others


def of(name: str, role: str) -> list[str]:
    return [path for path, found, _ in convolutions(name) if found == role]


def test_depthwise_convolutions() -> None:
    counts = {name: Counter(kind for *_, kind in convolutions(name))["depthwise"] for name in NETWORKS}
    assert counts == dict.fromkeys(NETWORKS, 0) | {"rtmpose-m": 12, "rtmw-m": 20}


def test_stems_and_shortcuts_by_name() -> None:
    downsample = [f"layer{stage}.0.downsample.0" for stage in (1, 2, 3, 4)]
    assert of("hmr", "stem") == ["conv1"]
    assert of("hmr", "shortcut") == downsample
    assert of("cliff-r50", "shortcut") == [f"encoder.{name}" for name in downsample]
    assert of("cliff-hr48", "stem") == ["encoder.conv1"]
    assert of("cliff-hr48", "shortcut") == [
        "encoder.layer1.0.downsample.0",
        *(f"encoder.incre_modules.{branch}.0.downsample.0" for branch in range(4)),
    ]
    assert of("bedlam-cliff", "shortcut") == ["backbone.layer1.0.downsample.0"]
    assert of("rtmpose-m", "stem") == ["backbone.stem.0.conv"]
    assert of("rtmpose-m", "shortcut") == of("rtmw-m", "shortcut") == []


def test_exchange_convolutions_of_hrnet_are_core() -> None:
    paths = [(path, role) for path, role, _ in convolutions("bedlam-cliff") if ".fuse_layers." in path]
    assert len(paths) == 1 * 2 + 4 * 7 + 3 * 16
    assert {role for _, role in paths} == {"core"}


def test_a_regressor_is_a_head() -> None:
    """Its layers are called three times; one of them reads the box beside the features."""
    with torch.device("meta"):
        graph = trace(CLIFF().eval())
    for name in ("fc1", "fc2", "decpose", "decshape", "deccam"):
        assert role_of(graph, name) == "head"


def test_tokens_that_are_constants_are_no_stem() -> None:
    """VQ-HPS's decoder begins at an embedding: what attends to it alone reads no picture."""
    with torch.device("meta"):
        graph = trace(VQHPS().eval())
    linear = [name for name, layer in graph.named_modules() if isinstance(layer, nn.Linear)]
    assert {role_of(graph, name) for name in linear} == {"head"}
