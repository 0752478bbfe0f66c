"""The transformer of VQ-HPS (arXiv 2312.08291) with the public parameter names; tokens are [N, tokens, channels].

The released head attends over the pictures of a batch, causally, because it takes tokens for pictures: a picture's
result depends on those before it. Here every picture is a batch of one, as when it is computed alone: each token
attends to itself, softmax has a single element, and key, query and mask act on nothing. The pass `fold-lone-softmax`
leaves proj(value(x)) of it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from bhpe_compile.networks.layers.trunk import Size

HEAD_WIDTH = 64
"""Channels of an attention head."""

TEMPERATURE = 10000.0
"""Of the sine position code: how much slower its last pair of channels turns than its first."""

SMALL = 1e-6


@fx.wrap  # one call in a traced graph, so that the graph holds for any device
def position_code(like: Tensor, rows: int, columns: int) -> Tensor:
    """The code of each cell of a grid, row by row: [1, rows * columns, C] for `like` [..., C], on its device.

    The first half of the channels turns with the row, the second with the column: sine and cosine alternate, and
    index 1 .. n of a side stands for 2 pi index / n.
    """
    half = like.shape[-1] // 2
    turns = TEMPERATURE ** (torch.arange(half, device=like.device) // 2 * 2 / half)
    down, across = _side(rows, turns), _side(columns, turns)
    grid = torch.cat((down[:, None].expand(-1, columns, -1), across[None].expand(rows, -1, -1)), 2)
    return grid.reshape(1, rows * columns, 2 * half).to(like.dtype)


def _side(cells: int, turns: Tensor) -> Tensor:
    index = torch.arange(1, cells + 1, dtype=torch.float32, device=turns.device)
    angles = (index / (cells + SMALL) * (2 * math.pi))[:, None] / turns
    return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), 2).flatten(1)


PROJECTIONS = ("query", "key", "value")
"""Layers whose weights stand one above the other as `in_proj` in published files."""


class Attention(nn.Module):
    """softmax(q k^T / sqrt(c)) v in heads of c channels; its state has the names of `nn.MultiheadAttention`'s."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in PROJECTIONS)
        self.out_proj = nn.Linear(width, width)
        self.register_state_dict_post_hook(_join_projections)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_part_projections)  # type: ignore[no-untyped-call]

    def _heads(self, x: Tensor) -> Tensor:
        """[N, T, C] -> [N, heads, T, C / heads]."""
        return torch.unflatten(x, 2, (self.heads, self.width // self.heads)).transpose(1, 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[N or 1, Q, C], [N, T, C], [N, T, C] -> [N, Q, C]."""
        q, k, v = self._heads(self.query(query)), self._heads(self.key(key)), self._heads(self.value(value))
        out: Tensor = self.out_proj(attend(q, k, v))
        return out


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(c)) v of [N, heads, Q, c], [N, heads, T, c], [N, heads, T, c] -> [N, Q, heads c]."""
    weights = torch.softmax(torch.matmul(q / math.sqrt(HEAD_WIDTH), k.transpose(2, 3)), 3)
    return torch.matmul(weights, v).transpose(1, 2).flatten(2)


def _join_projections(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for kind in ("weight", "bias"):
        parts = [state.pop(f"{prefix}{name}.{kind}") for name in PROJECTIONS]
        state[f"{prefix}in_proj_{kind}"] = torch.cat(parts)


def _part_projections(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for kind in ("weight", "bias"):
        whole = state.pop(f"{prefix}in_proj_{kind}", None)
        if whole is not None:
            state |= {
                f"{prefix}{name}.{kind}": part
                for name, part in zip(PROJECTIONS, whole.chunk(len(PROJECTIONS)), strict=True)
            }


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers, a norm before each; the position code is on queries and keys."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        y = self.norm1(x)
        placed = y + position
        x = x + self.self_attn(placed, placed, y)
        out: Tensor = x + self.linear2(functional.relu(self.linear1(self.norm2(x))))
        return out


class DecoderLayer(nn.Module):
    """Self-attention, attention to the picture's tokens, two linear layers, a norm before each.

    The position code is on the keys of the picture's tokens only.
    """

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.multihead_attn = Attention(width, heads)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.self_attn(y, y, y)
        x = x + self.multihead_attn(self.norm2(x), memory + position, memory)
        out: Tensor = x + self.linear2(functional.relu(self.linear1(self.norm3(x))))
        return out


class Encoder(nn.Module):
    """Layers and a norm."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList((EncoderLayer(width, heads, feedforward),))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, position)
        out: Tensor = self.norm(x)
        return out


class Decoder(nn.Module):
    """Layers and a norm."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList((DecoderLayer(width, heads, feedforward),))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, memory, position)
        out: Tensor = self.norm(x)
        return out


class OwnAttention(nn.Module):
    """The head's attention for one picture: each token attends to itself alone."""

    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads = heads
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.register_buffer("mask", torch.ones(1, 1, tokens, tokens).tril())

    def _alone(self, x: Tensor) -> Tensor:
        """[N, T, C] -> [N T, heads, 1, C / heads]: a sequence of one element for each token."""
        return torch.unflatten(x, 2, (self.heads, 1, HEAD_WIDTH)).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self._alone(self.query(x)), self._alone(self.key(x)), self._alone(self.value(x))
        out: Tensor = self.proj(attend(q, k, v).reshape(x.shape))
        return out


class HeadBlock(nn.Module):
    """Attention and two linear layers with GELU (erf) between, a norm before each."""

    def __init__(self, width: int, heads: int, feedforward: int, tokens: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = OwnAttention(width, heads, tokens)
        self.mlp = nn.Sequential(nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        out: Tensor = x + self.mlp(self.ln2(x))
        return out


class Head(nn.Module):
    """Tokens [N, T, C] -> logits of the codes [N, T, codes]."""

    def __init__(self, width: int, heads: int, feedforward: int, tokens: int, codes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(HeadBlock(width, heads, feedforward, tokens))
        self.ln_f = nn.LayerNorm(width)
        self.head = nn.Linear(width, codes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.ln_f(self.blocks(x)))
        return out


class Transformer(nn.Module):
    """Tokens of the picture, one for each of `cells` (rows, columns), and of the mesh -> logits of the mesh's codes."""

    def __init__(self, width: int, feedforward: int, tokens: int, codes: int, cells: Size) -> None:
        super().__init__()
        heads = width // HEAD_WIDTH
        self.cells = cells
        self.encoder = Encoder(width, heads, feedforward)
        self.decoder = Decoder(width, heads, feedforward)
        self.dec_head = Head(width, heads, feedforward, tokens, codes)

    def forward(self, picture: Tensor, mesh: Tensor) -> Tensor:
        """[N, rows * columns, C], [1, tokens, C] -> [N, tokens, codes]."""
        position = position_code(picture, *self.cells)
        memory = self.encoder(picture, position)
        out: Tensor = self.dec_head(self.decoder(mesh, memory, position))
        return out
