"""Bisecting: which pass, and which node, first computes something else than the reference."""

from bhpe_compile.check.bisect.search import BisectResult, bisect

__all__ = ["BisectResult", "bisect"]
