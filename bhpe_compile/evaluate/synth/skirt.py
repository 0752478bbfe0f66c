"""A skirt: a tube around the hips that follows the thighs, for the body itself has none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.evaluate.body import BodyModel
from bhpe_compile.evaluate.skeleton import INDEX as AT

ROWS, COLUMNS = 12, 40

CHAIN = ("pelvis", "left_hip", "right_hip", "left_knee", "right_knee")

LEVELS = 24
"""Heights between waist and ankle at which the body's half width and depth are measured."""


def _step(low: float, high: float, value: NDArray[np.float64]) -> NDArray[np.float64]:
    t = ((value - low) / (high - low)).clip(0, 1)
    return np.asarray(t * t * (3 - 2 * t))


class Skirt:
    """Skirts of one body, and its girth, which is measured in the same way."""

    def __init__(self, body: BodyModel) -> None:
        template = body.v_template.numpy().astype(np.float64)
        joints = (body.joint_regressor @ body.v_template).numpy().astype(np.float64)
        self._top, self._bottom = joints[AT["spine1"], 1] - 0.02, joints[AT["left_ankle"], 1]
        self._hips, self._knee = joints[AT["left_hip"], 1], joints[AT["left_knee"], 1]
        self._across = joints[AT["left_hip"], 0]
        arms = (
            body.weights[:, [AT[n] for n in AT if n.endswith(("shoulder", "elbow", "wrist"))]].sum(1).numpy()
        )
        trunk = np.flatnonzero((arms < 0.1) & (template[:, 1] < self._top + 0.05))
        heights = np.linspace(self._top, self._bottom, LEVELS)
        level = abs(template[trunk, None, 1] - heights).argmin(1)
        bands = [trunk[level == k] for k in range(LEVELS)]
        self._levels = heights[[len(band) > 0 for band in bands]]
        used = np.concatenate(bands)
        self._cuts = np.cumsum([len(band) for band in bands if len(band)])[:-1]
        self._template, self._dirs = template[used], body.shape_dirs.numpy()[used].astype(np.float64)
        self._rest, self._rest_dirs = self._chain(body, joints)
        self._average = float(self._half(np.zeros(10))[0].mean())
        grid = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
        a, b = grid[:-1], grid[1:]
        right_a, right_b = np.roll(a, -1, 1), np.roll(b, -1, 1)
        self.triangles = np.stack([a, b, right_a, right_a, b, right_b], -1).reshape(-1, 3).astype(np.int32)

    @staticmethod
    def _chain(
        body: BodyModel, joints: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        at = [AT[name] for name in CHAIN]
        moved = np.tensordot(body.joint_regressor.numpy()[at], body.shape_dirs.numpy(), 1)
        return joints[at], moved.astype(np.float64)

    def _half(
        self, betas: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """At the levels: half widths, half depths and middles (z) of a shape."""
        shaped = self._template + self._dirs @ betas
        bands = np.split(shaped, self._cuts)
        x = np.array([abs(band[:, 0]).max() for band in bands])
        low, high = (np.array([f(band[:, 2]) for band in bands]) for f in (np.min, np.max))
        return x, (high - low) / 2, (high + low) / 2

    def girth(self, betas: NDArray[np.float32]) -> float:
        """Of hips and legs, as a multiple of the template's."""
        return float(self._half(betas.astype(np.float64))[0].mean() / self._average)

    def __call__(
        self,
        rotations: NDArray[np.float32],
        joints: NDArray[np.float64],
        betas: NDArray[np.float32],
        cut: tuple[float, float],
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """[N, 9] positions, normals and places on the T-pose, and triangles [F, 3].

        `rotations` [55, 3, 3] and `joints` [55, 3] of the posed body; `cut`: y of the hem, widening at the hem.
        """
        hem, widening = cut
        half_x, half_z, middle = self._half(betas.astype(np.float64))
        y = np.linspace(self._top, hem, ROWS)
        t = (self._top - y) / (self._top - hem)
        levels = -self._levels  # rising
        width = np.maximum.accumulate(np.interp(-y, levels, half_x) + 0.012) * (1 + widening * t)
        depth = np.maximum.accumulate(np.interp(-y, levels, half_z) + 0.012) * (1 + widening * t)
        turn = np.linspace(0, 2 * np.pi, COLUMNS, endpoint=False)
        folds = 1 + 0.06 * t[:, None] * widening * np.sin(9 * turn)
        x = width[:, None] * np.cos(turn) * folds
        z = np.interp(-y, levels, middle)[:, None] + depth[:, None] * np.sin(turn) * folds
        rest = np.stack([x, np.broadcast_to(y[:, None], x.shape), z], -1).reshape(-1, 3)
        out = np.stack([np.cos(turn) / 1.0, 0 * turn, np.sin(turn)], -1)
        normal = np.broadcast_to(out, (ROWS, COLUMNS, 3)).reshape(-1, 3)

        left = _step(-self._across, self._across, rest[:, 0])
        hip = _step(self._top, self._hips - 0.08, rest[:, 1])
        knee = _step(self._knee + 0.06, self._knee - 0.06, rest[:, 1])
        weights = np.stack(
            [
                1 - hip,
                hip * left * (1 - knee),
                hip * (1 - left) * (1 - knee),
                hip * left * knee,
                hip * (1 - left) * knee,
            ]
        )
        root = rotations[0].astype(np.float64)
        turns = [root, root @ rotations[1], root @ rotations[2]]
        turns += [turns[1] @ rotations[4], turns[2] @ rotations[5]]
        homes = self._rest + self._rest_dirs @ betas.astype(np.float64)
        position, bent = np.zeros_like(rest), np.zeros_like(rest)
        for weight, R, home, name in zip(weights, turns, homes, CHAIN, strict=True):
            position += weight[:, None] * ((rest - home) @ R.T + joints[AT[name]])
            bent += weight[:, None] * (normal @ R.T)
        bent /= np.linalg.norm(bent, axis=1, keepdims=True) + 1e-9
        return np.hstack([position, bent, rest]).astype(np.float32), self.triangles
