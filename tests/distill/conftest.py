"""One small body for all tests of training."""

from __future__ import annotations

import pytest

from bhpe_compile.evaluate.body import BodyModel
from tests.distill.people import random_body


@pytest.fixture(scope="session")
def body(tmp_path_factory: pytest.TempPathFactory) -> BodyModel:
    return random_body(tmp_path_factory.mktemp("body"))
