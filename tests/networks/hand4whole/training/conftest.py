"""The body that losses are computed with."""

from __future__ import annotations

from tests.distill.conftest import body  # noqa: F401
