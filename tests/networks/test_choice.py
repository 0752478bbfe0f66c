"""`--network`: NAME, NAME:PRESET, FILE.toml, and each refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.networks.choice import Choice, choose
from bhpe_compile.networks.hand4whole.description import NETWORK
from bhpe_compile.networks.interface import Crop, Input, Interface


def test_a_name() -> None:
    choice = choose("hand4whole")
    assert (choice.network, choice.preset, choice.first) == (NETWORK, None, "full")
    assert choice.interface("tiny") == NETWORK.interface("tiny")


def test_a_name_with_a_preset() -> None:
    choice = choose("hand4whole:tiny")
    assert (choice.preset, choice.first) == ("tiny", "tiny")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("hand4hole", r"no network is called 'hand4hole'; did you mean hand4whole\?"),
        ("", "no network is called ''"),
        ("hand4whole:huge", "network hand4whole has no preset 'huge': it has full, tiny"),
        ("hand4whole:tiny:1", "has no preset 'tiny:1'"),
        ("nowhere.toml", r"nowhere\.toml: cannot be read \(No such file"),
    ],
)
def test_what_is_not_there(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        choose(spec)


def written(folder: Path, text: str) -> str:
    (folder / "net.toml").write_text(text)
    return str(folder / "net.toml")


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    spec = written(
        tmp_path,
        'network = "hand4whole:tiny"\n'
        "[inputs.image.crop]\nenlarge = 1.1\nmean = [0.5, 0.5, 0.5]\n"
        '[outputs.joint_img]\ntolerance = 0.02\n[skeleton]\nsmall = ["neck"]\n',
    )
    choice = choose(spec)
    assert (choice.network, choice.preset, choice.source) == (NETWORK, "tiny", spec)
    changed, plain = choice.interface("tiny"), NETWORK.interface("tiny")
    assert changed.picture is not None
    assert plain.picture is not None
    assert (changed.picture.crop.enlarge, changed.picture.crop.mean) == (1.1, (0.5, 0.5, 0.5))  # type: ignore[union-attr]
    assert changed.picture.crop.deviation == plain.picture.crop.deviation  # type: ignore[union-attr]
    assert changed.picture.shape == plain.picture.shape
    assert changed.output("joint_img").bound == 0.02
    assert changed.output("joint_img").names == plain.output("joint_img").names
    assert [one for one in changed.outputs if one.name != "joint_img"] == [
        one for one in plain.outputs if one.name != "joint_img"
    ]
    assert changed.skeleton.small == ("neck",)
    assert changed.skeleton.bones == plain.skeleton.bones
    assert changed.body == plain.body


def test_a_description_that_is_not_sound_is_named() -> None:
    """Values of a description are checked where it is chosen: dataclasses of Python do not."""
    unsound = Interface(inputs=(Input("image", (1, 3, 8, 8), "picture", Crop(enlarge=0)),))
    network = replace(NETWORK, name="theirs", interface=lambda preset: unsound)
    with pytest.raises(InputError, match=r"^theirs: the description .* `\$.inputs\[0\].crop.enlarge`"):
        Choice(network, "tiny").interface("tiny")


def test_a_file_may_leave_the_preset_open(tmp_path: Path) -> None:
    choice = choose(written(tmp_path, 'network = "hand4whole"\n[inputs.image.crop]\nenlarge = 2\n'))
    assert choice.preset is None
    for preset in NETWORK.presets:
        picture = choice.interface(preset).picture
        assert picture is not None
        assert picture.crop is not None
        assert picture.crop.enlarge == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("network = ", "is not TOML"),
        ("\x00", "is not TOML"),
        ("", 'says no network; begin with network = "NAME:PRESET"'),
        ("network = 3", "says no network"),
        ('network = "other.toml"', "says no network"),
        ('network = "hand4whole"\ncolour = "red"\nsize = 3', "unknown colour, size; known are network"),
        ("a = " + "[" * 20_000, "is not TOML"),
    ],
)
def test_a_file_that_is_no_description(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"net\.toml: .*{says}") as caught:
        choose(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(InputError, match="is not TOML"):
        choose(str(tmp_path / "net.toml"))


def test_a_file_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"net\.toml: is (too long|not TOML)"):
        choose(written(tmp_path, "#" * ((4 << 20) + 1)))


def test_a_folder_is_no_description(tmp_path: Path) -> None:
    (tmp_path / "net.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        choose(str(tmp_path / "net.toml"))


def test_a_file_that_names_an_unknown_network(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no network is called 'nobody'"):
        choose(written(tmp_path, 'network = "nobody"'))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[inputs.picture.crop]\nenlarge = 1.1", "hand4whole has no input 'picture'; there are image"),
        ("[outputs.joints_img]\ntolerance = 1.0", r"has no output 'joints_img'; did you mean joint_img"),
        ("inputs = 3", r"inputs are tables by name, such as \[inputs.image\]"),
        ("inputs = [1]", "inputs are tables by name"),
        ("[inputs]\nimage = 3", "damaged: Expected `object`, got `int`"),
        ("[inputs.image.crop]\nenlarge = 0", r"> 0.0 - at `\$.inputs\[0\].crop.enlarge`"),
        ("[inputs.image.crop]\nlarger = 1.1", "unknown field `larger`"),
        ('[inputs.image]\nkind = "sound"', "'sound'"),
        ("[outputs.joint_img]\ntolerance = -1", r"> 0.0 - at `\$.outputs\[8\].tolerance`"),
        ("skeleton = 3", "Expected `object`, got `int`"),
    ],
)
def test_changes_that_do_not_fit(tmp_path: Path, text: str, says: str) -> None:
    choice = choose(written(tmp_path, f'network = "hand4whole:tiny"\n{text}\n'))
    with pytest.raises(InputError, match=rf"net\.toml: .*{says}") as caught:
        choice.interface("tiny")
    assert "\n" not in str(caught.value)
