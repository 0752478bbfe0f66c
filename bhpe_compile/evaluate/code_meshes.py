"""Meshes of networks that tell a body as the entries of a code book: the decoder of Mesh-VQ-VAE (arXiv 2312.08291), in
NumPy, from its owner's checkpoint and connection tables.

    x = book[codes]                                       one row for each part of the mesh
    a layer      x'_p = elu(sum_w W_w sum_m c_pmw x_n(p,m) + b)     neighbours n(p, m), coefficients c, W matrices
    a pool       x'_p = sum_m |q_pm| / (sum_m |q_pm| + 1e-8) V x_n(p,m)
    vertices     of the last layer, which has no elu; metres, the body's own directions

Tables (one .npy a layer, `..._unpool6.npy` to `..._unpool0.npy`) have a row for every point of the result: how many
neighbours it has, then pairs of a point and a distance. A point beyond the last one stands for none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.meshes import Mesher, Pose
from bhpe_compile.networks.interface import Interface, Output
from bhpe_compile.reading import MalformedError
from bhpe_compile.reading_arrays import read_npy
from bhpe_compile.runtime.stream import Person

Array = NDArray[Any]

BOOK = "vq_vae._embedding.weight"
"""The code book [entries, channels] in the checkpoint."""

LAYERS = "decoder.model."
"""Where its layers stand; their numbers go on behind those of the encoder, which has as many."""

TABLE = re.compile(r"_unpool(\d+)\.npy$")

LEAST = 1e-8


@dataclass(frozen=True)
class _Layer:
    """P points of Q. neighbours [P, M]: points, Q for none. Then matrices [W, O, I], coefficients [P, M, W] and bias
    [O], or a pool [P, M] and change [O, I] of its channels."""

    neighbours: Array
    matrices: Array | None
    coefficients: Array | None
    bias: Array | None
    pool: Array | None
    change: Array | None

    def __call__(self, x: Array, *, last: bool) -> Array:
        """[Q, I] -> [P, O]."""
        if self.change is not None:
            x = x @ self.change.T
        near = np.concatenate((x, np.zeros_like(x[:1])))[self.neighbours]  # [P, M, I]
        if self.matrices is None:
            return x if self.pool is None else np.asarray(np.einsum("pm,pmi->pi", self.pool, near))
        assert self.coefficients is not None
        mixed = np.einsum("pmw,pmi->pwi", self.coefficients, near)
        y = np.tensordot(mixed, self.matrices, ((1, 2), (0, 2))) + self.bias
        return np.asarray(y if last else np.where(y > 0, y, np.expm1(np.minimum(y, 0))))


class CodeDecoder:
    """Codes [parts] -> vertices [V, 3], float64."""

    def __init__(
        self, state: Mapping[str, Array], tables: Mapping[int, Array], parts: int, source: str
    ) -> None:
        """state: the checkpoint's arrays by name; tables: by the number in their names; parts: codes of a mesh.

        InputError names what is missing, or does not fit.
        """
        if BOOK not in state:
            raise InputError(f"{source}: has no {BOOK}: it is no checkpoint of a Mesh-VQ-VAE")
        self.book = state[BOOK].astype(np.float64)
        self.layers: list[_Layer] = []
        points, channels = parts, self.book.shape[1]
        for index, number in enumerate(sorted(tables, reverse=True)):
            where = f"layer {len(tables) + index} (table _unpool{number})"
            layer = _layer(state, tables[number], len(tables) + index, points, channels, f"{source}: {where}")
            self.layers.append(layer)
            points = len(layer.neighbours)
            if layer.matrices is not None:
                channels = layer.matrices.shape[1]
            elif layer.change is not None:
                channels = len(layer.change)
        if channels != 3:
            raise InputError(f"{source}: its last layer gives {channels} numbers a point, not x, y, z")
        self.vertex_count = points

    def __call__(self, codes: Array) -> Array:
        """InputError for codes that are not in the book."""
        codes = codes.ravel()
        if codes.min(initial=0) < 0 or codes.max(initial=0) >= len(self.book):
            raise InputError(f"codes up to {codes.max()} are not in a book of {len(self.book)} entries")
        x = self.book[codes]
        for layer in self.layers:
            x = layer(x, last=layer is self.layers[-1])
        return x


def _layer(
    state: Mapping[str, Array], table: Array, number: int, points: int, channels: int, where: str
) -> _Layer:
    """points: those that the layer reads."""

    def array(name: str) -> Array | None:
        found = state.get(f"{LAYERS}{name}{number}")
        return None if found is None else found.astype(np.float64)

    neighbours = table[:, 1:].reshape(len(table), -1, 2)[:, :, 0].astype(np.int64)
    if neighbours.min() < 0 or neighbours.max() > points:
        raise InputError(f"{where}: its table reads point {neighbours.max()} of {points}")
    known = (neighbours < points).astype(np.float64)
    weights, coefficients, bias = array("weights"), array("w_weights"), array("bias")
    pool, change = array("p_neighbors"), array("weight_res")
    shape = neighbours.shape
    if weights is None:
        fits = pool is None or pool.shape == shape
        if not fits or (change is not None and change.shape[1] != channels):
            raise InputError(f"{where}: its pool does not fit its table")
        if pool is None and len(table) != points:
            raise InputError(f"{where}: the checkpoint has no weights for it")
        if pool is not None:
            pool = np.abs(pool) * known
            pool = pool / (pool.sum(1, keepdims=True) + LEAST)
        return _Layer(neighbours, None, None, None, pool, change)
    if pool is not None or change is not None:
        raise InputError(f"{where}: mixes a layer with a pool, which is not read here")
    if bias is None or coefficients is None or coefficients.shape != (*shape, len(weights)):
        raise InputError(
            f"{where}: its weights do not fit its table of {shape[0]} points, {shape[1]} neighbours"
        )
    if weights.shape[1] != len(bias) * channels:
        raise InputError(f"{where}: its weights are not of {channels} channels to {len(bias)}")
    matrices = weights.reshape(len(weights), len(bias), channels)
    return _Layer(neighbours, matrices, coefficients * known[:, :, None], bias, None, None)


def read_tables(folder: Path) -> dict[int, Array]:
    """The connection tables in a folder, by the number in their names. UsageError where there are none, InputError for
    one that is damaged."""
    try:
        paths = {int(found[1]): path for path in folder.iterdir() if (found := TABLE.search(path.name))}
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read ({error.strerror})") from None
    if not paths or sorted(paths) != list(range(len(paths))):
        raise UsageError(
            f"{folder}: holds no tables ..._unpool0.npy, ..._unpool1.npy, ...: they come with Mesh-VQ-VAE's body models"
        )
    tables = {}
    for number, path in paths.items():
        try:
            table = read_npy(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
        except MalformedError as error:
            raise InputError(f"{path}: damaged, or no array: {error}") from None
        if table.ndim != 2 or table.shape[1] < 3 or table.shape[1] % 2 == 0 or not np.isfinite(table).all():
            raise InputError(
                f"{path}: is no table of a count and pairs a row, its shape is {list(table.shape)}"
            )
        tables[number] = table
    return tables


def codes_of(interface: Interface) -> Output | None:
    """The output that tells a mesh as codes."""
    return next((one for one in interface.outputs if one.kind == "codes"), None)


class CodeMesher(Mesher):
    """Decodes what a network tells as codes, and turns it as the network says. The body gives the faces."""

    skinned = False

    def __init__(self, decoder: CodeDecoder, body: BodyModel, interface: Interface) -> None:
        """InputError for a body with another number of vertices."""
        super().__init__(body, interface)
        if decoder.vertex_count != body.vertex_count:
            raise InputError(
                f"the decoder gives {decoder.vertex_count} vertices, and the body's faces are of {body.vertex_count}"
            )
        self._decoder = decoder

    def pose(self, person: Person) -> Pose:
        """The whole body's rotation [1, 3, 3]; its shape are the codes."""
        output = codes_of(self.interface)
        turned = next((one for one in self.interface.outputs if one.kind == "rotation"), None)
        assert output is not None  # `open_mesher` makes this one for networks that have it
        rotation = np.eye(3)[None] if turned is None else person.outputs[turned.name].reshape(-1, 3, 3)[:1]
        parts = rotation.astype(np.float32), person.outputs[output.name].ravel(), np.zeros(0, np.float32)
        return Pose(*parts, *self._where(person, parts))

    def vertices(self, pose: Pose) -> NDArray[np.float32]:
        """[V, 3] metres, camera directions, not moved."""
        return np.asarray(self._decoder(pose.shape) @ pose.rotations[0].T.astype(np.float64), np.float32)
