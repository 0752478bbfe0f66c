"""Names of packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import parse_wheel_filename

from bhpe_compile.artifact.wheel import package_name


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("model-x86", "bhpe_model_x86"),
        ("Modèle größer", "bhpe_modele_groer"),
        ("a..b__c-", "bhpe_a_b_c"),
        ("人", "bhpe_50f5d65d"),
        ("١٢", None),
    ],
)
def test_a_folder_of_any_name_is_a_package_that_pip_takes(
    folder: str, name: str | None, tmp_path: Path
) -> None:
    found = package_name(tmp_path / folder)
    assert name in (None, found)
    assert found.isascii()
    assert found.isidentifier()
    assert parse_wheel_filename(f"{found}-0+abc-py3-none-any.whl")[0] == found.replace("_", "-")
    assert package_name(tmp_path / "人") != package_name(tmp_path / "口")
