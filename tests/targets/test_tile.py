"""Tables of tiles: read back as written; damage and the wrong instruction set are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.targets import PRESETS
from bhpe_compile.targets.tile import LARGEST, Tile, Tuned, packaged_tiles, read_tiles, write_tiles

SIZES = st.integers(1, LARGEST)
TUNED = st.builds(
    Tuned,
    st.builds(Tile, SIZES, SIZES, st.sampled_from([None, True, False])),
    st.integers(1, 10**9).map(float),
    st.integers(1, 10**9).map(float),
)


@given(tiles=st.dictionaries(st.text(min_size=1), TUNED, max_size=4))
def test_read_as_written(tmp_path_factory: pytest.TempPathFactory, tiles: dict[str, Tuned]) -> None:
    path = tmp_path_factory.mktemp("tiles") / "t.json"
    path.write_text(write_tiles(tiles, "x86", "avx2", "some CPU"), encoding="utf-8")
    assert dict(read_tiles(path, "avx2")) == tiles


@pytest.mark.parametrize("name", PRESETS)
def test_packaged_tables_are_sound(name: str) -> None:
    """Every entry was faster than the heuristic by the margin `tune` asks for."""
    target = PRESETS[name]
    for key, one in target.measured_tiles().items():
        assert one.ns < 0.98 * one.default_ns, key
    file = Path(__file__).parents[2] / f"bhpe_compile/targets/tiles/{name}.json"
    if file.exists():
        assert json.loads(file.read_text())["isa"] == target.isa.name


def test_native_shares_the_table_of_its_preset() -> None:
    if "native" not in PRESETS:
        pytest.skip("this machine runs none of the presets")
    native = PRESETS["native"]
    assert native.measured_tiles() == packaged_tiles(str(native.tiles))


ROW = {"pixels": 4, "vectors": 2, "channels_outside": None, "ns": 1, "default_ns": 2}


@pytest.mark.parametrize(
    "change",
    [{"pixels": 0}, {"vectors": LARGEST + 1}, {"pixels": True}, {"channels_outside": 1}, {"ns": "fast"}],
)
def test_damaged_rows(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"isa": "avx2", "tiles": {"key": ROW | change}}))
    with pytest.raises(InputError, match=r"t\.json: is no table of tiles"):
        read_tiles(path, "avx2")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"tiles": {}}', b"\xff\xfe", b'{"isa": "avx2", "tiles": 3}']
)
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t\.json: is no table of tiles"):
        read_tiles(path, "avx2")


def test_other_instruction_set_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(write_tiles({}, "arm", "neon", "board"))
    with pytest.raises(UsageError, match=r"was measured for neon, the target has avx2"):
        read_tiles(path, "avx2")
    with pytest.raises(UsageError, match=r"none\.json: No such file"):
        read_tiles(tmp_path / "none.json", "avx2")
