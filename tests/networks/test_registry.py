"""Networks that installed packages bring, and what is said of packages that cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import bhpe_compile
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.registry import get_network, networks, registered
from tests.command import inside
from tests.networks.packages import install, on_path

OURS = f"bhpe-compile {bhpe_compile.__version__}"

SMALL = """
from bhpe_compile.networks.interface import Interface
from bhpe_compile.networks.network import Network

def make(name):
    return Network(name, "for a test", ("a", "b"), lambda preset: None, lambda preset: Interface(name, preset))

NETWORK = make("{name}")
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder of packages on the path."""
    with on_path(tmp_path):
        yield tmp_path


def test_a_package_brings_a_network(site: Path) -> None:
    install(site, "small-poses", "1.2", {"small": "poses_a:NETWORK"}, poses_a=SMALL.format(name="small"))
    assert registered()["small"].source == "small-poses 1.2"
    assert [network.name for network in networks()][-1] == "small"
    assert get_network("small").presets == ("a", "b")
    assert registered()["hand4whole"].source == OURS


def test_a_package_brings_several(site: Path) -> None:
    source = SMALL.format(name="one") + 'NETWORKS = (NETWORK, make("two"))\n'
    install(site, "small-poses", "2", {"all": "poses_b:NETWORKS"}, poses_b=source)
    assert [network.name for network in networks()][-2:] == ["one", "two"]


@pytest.mark.parametrize(
    ("entry", "source", "says"),
    [
        ("poses_c:NETWORK", "raise OSError('no such table')", "cannot be loaded: no such table"),
        ("poses_c:NETWORK", "raise ValueError('a\\n  b')", "cannot be loaded: a b"),
        ("poses_c:NETWORK", "import elsewhere_entirely", "No module named 'elsewhere_entirely'"),
        ("poses_c:NETWORK", "NETWORKS = ()", "has no attribute 'NETWORK'"),
        ("nowhere_at_all:NETWORK", "", "No module named 'nowhere_at_all'"),
        ("poses_c:NETWORK", "NETWORK = 'small'", "poses_c:NETWORK is no Network but a str"),
        ("poses_c:NETWORK", "NETWORK = [3]", "poses_c:NETWORK is no Network but a int"),
        ("poses_c:NETWORK", "class NETWORK: pass", "is no Network but a type"),
    ],
)
def test_a_package_that_brings_none_is_named(site: Path, entry: str, source: str, says: str) -> None:
    install(site, "broken-poses", "0.3", {"broken": entry}, poses_c=source)
    with pytest.raises(
        InputError, match=f"^broken-poses 0.3: its network {entry} cannot be loaded: "
    ) as caught:
        registered()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_packages_with_one_name_are_both_named(site: Path) -> None:
    for package in ("first-poses", "second-poses"):
        module = package.replace("-", "_")
        install(site, package, "1", {"same": f"{module}:NETWORK"}, **{module: SMALL.format(name="same")})
    says = "two packages bring a network same: first-poses 1 and second-poses 1; uninstall one"
    with pytest.raises(InputError, match=says):
        registered()


def test_a_name_of_ours_is_taken(site: Path) -> None:
    install(site, "other", "1", {"it": "poses_d:NETWORK"}, poses_d=SMALL.format(name="hand4whole"))
    with pytest.raises(InputError, match=rf"a network hand4whole: {OURS} and other 1; uninstall one"):
        registered()


def test_an_unknown_network_is_named_with_what_is_near() -> None:
    with pytest.raises(UsageError, match=r"no network is called 'hand4hole'; did you mean hand4whole\?"):
        get_network("hand4hole")
    with pytest.raises(UsageError, match="'xyzzy'; see bhpe-compile networks"):
        get_network("xyzzy")


def test_networks_command(site: Path) -> None:
    install(site, "small-poses", "1.2", {"small": "poses_e:NETWORK"}, poses_e=SMALL.format(name="small"))
    answer = inside("networks", "--format", "json")
    assert (answer.code, answer.stderr) == (0, "")
    listed = {one["name"]: one for one in json.loads(answer.stdout)}
    assert list(listed) == list(registered())
    assert listed["small"] == {
        "name": "small",
        "presets": ["a", "b"],
        "source": "small-poses 1.2",
        "summary": "for a test",
    }
    assert listed["hand4whole"]["presets"] == ["full", "tiny"]
    assert listed["hand4whole"]["source"] == OURS
    table = inside("networks").stdout.splitlines()
    assert [line.split()[0] for line in table[2:]] == list(listed)
    assert "small-poses 1.2" in table[-1]


def test_a_broken_package_stops_the_command_with_one_line(site: Path) -> None:
    install(site, "broken-poses", "1", {"broken": "poses_f:NETWORK"}, poses_f="raise ValueError('bad')")
    answer = inside("networks")
    assert (answer.code, answer.stdout) == (3, "")
    assert answer.stderr == "error: broken-poses 1: its network poses_f:NETWORK cannot be loaded: bad\n"
