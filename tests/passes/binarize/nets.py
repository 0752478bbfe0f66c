"""Small networks with the layer names of Hand4Whole, and a printer of graphs for before/after tests."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from bhpe_compile.networks.network import Roles

ROLES: Roles = (
    ("*layer?.?.conv?", "core"),  # where a block reads the input itself, structure would call it a stem
    ("*downsample.0", "shortcut"),
    ("*box_net.deconv.*", "branch"),
    ("*box_net.*_size.*", "branch"),
    ("*_conv.*", "head"),
    ("*_out.*", "head"),
    ("*bbox_center.*", "head"),
)
"""For networks so small that what a layer is for cannot be seen."""


class Bottleneck(nn.Module):
    def __init__(self, cin: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU()
        self.downsample = shortcut(cin, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y = y + (x if self.downsample is None else self.downsample(x))
        return self.relu(y)  # type: ignore[no-any-return]


class Basic(nn.Module):
    def __init__(self, cin: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(cin, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)  # type: ignore[no-any-return]


def shortcut(cin: int, cout: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and cin == cout:
        return None
    return nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))


class Trunk(nn.Module):
    """Stem, a stage at full size and one at half of it, with the block classes and widths of ResNet-50 or 18."""

    roles = ROLES

    def __init__(self, kind: type[Bottleneck] | type[Basic], width: int = 8) -> None:
        super().__init__()
        out = 4 if kind is Bottleneck else 1
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(kind(width, width), kind(out * width, width))
        self.layer2 = nn.Sequential(kind(out * width, 2 * width, 2), kind(2 * out * width, 2 * width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer2(self.layer1(x))  # type: ignore[no-any-return]


class BoxNet(nn.Module):
    roles = ROLES

    def __init__(self, cin: int, width: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (cin, width, width):
            layers += [
                nn.ConvTranspose2d(channels, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.deconv = nn.Sequential(*layers)
        self.bbox_center = nn.Sequential(nn.Conv2d(width, 3, 1))
        self.face_size = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, x: Tensor, heat: Tensor) -> tuple[Tensor, Tensor]:
        x = self.deconv(torch.cat((x, heat), 1))
        return self.bbox_center(x).mean((2, 3)), self.face_size(x.mean((2, 3)))


class Heads(nn.Module):
    """A head with batch normalisation and ReLU, then a linear layer on means."""

    roles = ROLES

    def __init__(self, cin: int) -> None:
        super().__init__()
        self.body_conv = nn.Sequential(nn.Conv2d(cin, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.root_pose_out = nn.Sequential(nn.Linear(8, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.root_pose_out(self.body_conv(x).mean((2, 3)))  # type: ignore[no-any-return]


class Position(nn.Module):
    roles = ROLES

    def __init__(self, cin: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(cin, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.conv(x).flatten(2), 2).reshape(x.shape[0], 4, x.shape[2], x.shape[3])


class Face(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Trunk(Basic)

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)  # type: ignore[no-any-return]


class Whole(nn.Module):
    """A whole network in little: two trunks, BoxNet, heads. Input [N, 3, 32, 32] or larger."""

    roles = ROLES

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Trunk(Bottleneck)
        self.body_position_net = Position(64)
        self.body_rotation_net = Heads(64)
        self.box_net = BoxNet(64 + 4)
        self.face_roi_net = Face()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        feature = self.backbone(image)
        heat = self.body_position_net(feature)
        centre, size = self.box_net(feature, heat)
        return {
            "heat": heat,
            "pose": self.body_rotation_net(feature),
            "centre": centre,
            "size": size,
            "face": self.face_roi_net(image),
        }


class ConvBlock(nn.Module):
    """conv -> bn -> relu under the names of a residual block."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, padding: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, kernel, stride, padding, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn1(self.conv1(x)))  # type: ignore[no-any-return]


class OneConv(nn.Module):
    """The smallest place where a core convolution stands: `layer1.0.conv1`. Padding None: half the kernel."""

    roles = ROLES

    def __init__(
        self,
        cin: int,
        cout: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.block = [
            ConvBlock(cin, cout, kernel, stride, kernel // 2 if padding is None else padding, groups)
        ]
        self.layer1 = nn.Sequential(*self.block)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer1(x)  # type: ignore[no-any-return]


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter and statistic: BN with gammas of both signs, thresholds and shifts away from 0."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            tensor.copy_(torch.randn(tensor.shape, generator=draw) * 0.3)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return model


def picture(size: int = 32, batch: int = 2, channels: int = 3, seed: int = 1) -> Tensor:
    """Smooth noise: normal values at a quarter of the size, interpolated."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, channels, size // 4, size // 4, generator=draw)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def lines(graph: fx.GraphModule) -> list[str]:
    """The graph as text, one line per call: what is called on which nodes."""
    text = []
    for node in graph.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        target = node.target if isinstance(node.target, str) else node.target.__name__
        text.append(f"{target}({', '.join(one.name for one in node.all_input_nodes)})")
    return text
