"""The model in Node and in Debian's Chromium: the bits that wasmtime gives, the page, a film before the camera."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bhpe_compile.artifact.web
from bhpe_compile.artifact.web import PACKAGE
from bhpe_compile.networks.registry import get_network
from bhpe_compile.runtime import load_picture, make_feeds, open_session
from bhpe_compile.runtime.people import axis_angles, describe_person, pose_document
from bhpe_compile.runtime.serve import open_site
from tests.browsers import PATIENCE, chromium
from tests.examples import Compiled

BOX = (31.0, 20.5, 300.0, 470.0)


@dataclass(frozen=True)
class Expected:
    """What wasmtime computes for a picture: outputs as hexadecimal bytes by name, and the document of `run`."""

    outputs: dict[str, str]
    pose: Any


def expected(folder: Path, picture: Path, box: tuple[float, float, float, float] | None = None) -> Expected:
    pytest.importorskip("wasmtime", reason="the package wasmtime runs WebAssembly")
    loaded = load_picture(picture, box)
    with open_session(folder) as session:
        outputs = session.execute(make_feeds(session.interface, loaded)).outputs
        person = describe_person(loaded, outputs, session.interface)
        pose = pose_document([person], session.interface)
    return Expected(
        {name: array.tobytes().hex() for name, array in outputs.items()}, json.loads(json.dumps(pose))
    )


# ---- Node ------------------------------------------------------------------------------------------------------------


def node(code: str, folder: Path) -> Any:
    """What a module prints as JSON, run in `folder`."""
    if shutil.which("node") is None:
        pytest.skip("no node on this machine (scripts/system-packages installs npm, which brings it)")
    words = ["node", "--input-type=module", "-e", code]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


RUN_IN_NODE = """
import {{ readFile }} from "node:fs/promises";
import {{ createModel }} from "{module}";
const model = await createModel(), data = new Uint8Array(await readFile({pixels}));
const pose = model.run({{ data, width: {width}, height: {height} }}, {{ box: {box} }});
const bits = (name) => Buffer.from(model.output(name).buffer).toString("hex");
const outputs = Object.fromEntries(model.outputs.map(({{ name }}) => [name, bits(name)]));
model.close();
console.log(JSON.stringify({{ pose, outputs }}));
"""


def run_in_node(folder: Path, picture: Path, box: Any, place: Path, module: str) -> Expected:
    rgb = load_picture(picture).rgb
    pixels = place / "pixels.rgba"
    pixels.write_bytes(np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)]).tobytes())
    code = RUN_IN_NODE.format(
        module=module,
        pixels=json.dumps(str(pixels)),
        width=rgb.shape[1],
        height=rgb.shape[0],
        box=json.dumps(box),
    )
    return Expected(**node(code, folder))


@pytest.mark.parametrize("box", [None, BOX])
def test_node_gives_the_bits_of_wasmtime(
    compiled_web: Compiled, example: Path, tmp_path: Path, box: tuple[float, float, float, float] | None
) -> None:
    folder, picture = compiled_web.folder, example / "drawn.jpg"
    got = run_in_node(folder, picture, box, tmp_path, "./model.js")
    assert got == expected(folder, picture, box)


def test_another_target_gives_the_same_bits(
    compiled_web: Compiled, compiled_bidrn: Compiled, example: Path
) -> None:
    """What stands before the last level is exact on every target; here the outputs are equal, too."""
    picture = example / "drawn.jpg"
    assert expected(compiled_web.folder, picture) == expected(compiled_bidrn.folder, picture)


def test_npm_packs_installs_and_tests(compiled_web: Compiled, example: Path, tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no npm on this machine (scripts/system-packages installs it)")

    def run(*words: str | Path, folder: Path) -> str:
        done = subprocess.run(
            [npm, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    packed = json.loads(run("pack", compiled_web.folder, "--json", folder=tmp_path))[0]
    assert {file["path"] for file in packed["files"]} == set(PACKAGE)
    user = tmp_path / "user"
    user.mkdir()
    (user / "package.json").write_text('{"type": "module"}')
    file = f"../{packed['filename']}"
    run("install", "--offline", "--no-audit", "--no-fund", file, folder=user)
    package = user / "node_modules" / packed["name"]
    assert re.search(r"^# fail 0$", run("test", folder=package), re.MULTILINE)
    got = run_in_node(user, example / "drawn.jpg", None, tmp_path, packed["name"])
    assert got == expected(compiled_web.folder, example / "drawn.jpg")


ROUNDING = """
import { rounded, axisAngle } from "./people.js";
import { readFileSync } from "node:fs";
const { numbers, matrices } = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify([numbers.map((n) => [rounded(n, 2), rounded(n, 6)]), matrices.map(axisAngle)]));
"""


def test_numbers_are_rounded_and_turned_as_in_python(compiled_web: Compiled) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node on this machine")
    generator = np.random.default_rng(5)
    numbers = [0.125, 0.375, -0.125, 2.5, 1.005, -0.001, 0.0, 1e-9, *generator.normal(0, 300, 500).tolist()]
    numbers += (generator.integers(-4000, 4000, 200) / 8).tolist()  # ties among them
    quaternions = generator.normal(size=(40, 4))
    x, y, z, w = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    matrices = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    ).transpose(2, 0, 1)
    matrices = np.concatenate([matrices + generator.normal(0, 1e-3, matrices.shape), np.eye(3)[None]])
    done = subprocess.run(
        ["node", "--input-type=module", "-e", ROUNDING],
        input=json.dumps({"numbers": numbers, "matrices": matrices.reshape(-1, 9).tolist()}),
        cwd=compiled_web.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    rounded, turned = json.loads(done.stdout)
    assert rounded == [[round(n, 2) + 0.0, round(n, 6) + 0.0] for n in numbers]
    # two ways to the same eigenvector in float64
    np.testing.assert_allclose(turned, axis_angles(matrices), atol=1e-9)


CAMERA = """
import {{ describePose }} from "./people.js";
const {{ network, frame, values }} = {given};
const pose = describePose(network, frame, {{ camera: Float32Array.from(values) }}, null);
console.log(JSON.stringify(pose.people[0].camera));
"""


@pytest.mark.parametrize("focal", [None, 700.0])
def test_a_focal_length_places_the_camera_as_in_python(focal: float | None) -> None:
    """Of a network that is told where the box is; the picture's diagonal stands for one that is not known."""
    interface = get_network("cliff-r50").interface("tiny")
    picture = replace(load_picture(np.zeros((480, 640, 3), np.uint8), BOX), focal=focal)
    values = np.array([0.9, 0.05, -0.1], np.float32)
    assert interface.picture is not None
    view = picture.seen_by(interface.picture)
    x, y = view.affine[:, 2].tolist()
    frame = {"width": 640, "height": 480, "box": BOX, "x": x, "y": y, "scale": view.scale, "focal": focal}
    given = {"network": interface.to_dict(), "frame": frame, "values": values.tolist()}
    web = Path(bhpe_compile.artifact.web.__file__).with_suffix("")
    told = node(CAMERA.format(given=json.dumps(given)), web)
    assert told == describe_person(picture, {"camera": values[None]}, interface)["camera"]
    assert told["focal"] == (800.0 if focal is None else focal)


def test_a_focal_length_that_is_none_is_refused(compiled_web: Compiled) -> None:
    code = """
    import { createModel } from "./model.js";
    const model = await createModel(), picture = { data: new Uint8Array(4 * 64), width: 8, height: 8 };
    const refused = (focal) => { try { model.setPicture(picture, { focal }); } catch (e) { return e.message; } };
    const said = [0, -1, NaN, "wide"].map(refused);
    console.log(JSON.stringify([said, model.setPicture(picture, { focal: 9 }).focal]));
    """
    said, focal = node(code, compiled_web.folder)
    assert all(text.endswith("a finite number of pixels above 0") for text in said)
    assert focal == 9


# ---- the page --------------------------------------------------------------------------------------------------------


@dataclass
class Page:
    """The page in a browser: what it logged and asked for."""

    view: Any
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def status(self, text: str | re.Pattern[str]) -> None:
        """Wait until the page says so."""
        from playwright.sync_api import expect

        expect(self.view.locator("#status")).to_have_text(text, timeout=PATIENCE)

    def choose(self, picture: Path | dict[str, Any]) -> Any:
        """Choose a picture and wait for its pose."""
        self.view.set_input_files("#file", picture)
        self.status("Done.")
        return json.loads(self.view.locator("#text").text_content())


@pytest.fixture(scope="module")
def url(compiled_web: Compiled) -> Iterator[str]:
    with open_site(compiled_web.folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def film(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn person who moves to and fro: 320 x 240, 30 frames a second, two seconds."""
    file = tmp_path_factory.mktemp("film") / "film.y4m"
    person = Image.open(example / "drawn.jpg").convert("RGB").resize((180, 240))
    with file.open("wb") as stream:
        stream.write(b"YUV4MPEG2 W320 H240 F30:1 Ip A1:1 C420jpeg\n")
        for i in range(60):
            frame = Image.new("RGB", (320, 240), (90, 110, 120))
            frame.paste(person, (70 + round(30 * math.sin(2 * math.pi * i / 60)), 0))
            y, cb, cr = frame.convert("YCbCr").split()
            half = [plane.resize((160, 120)).tobytes() for plane in (cb, cr)]
            stream.write(b"FRAME\n" + y.tobytes() + b"".join(half))
    return file


@pytest.fixture(scope="module")
def browser(film: Path) -> Iterator[Any]:
    """With a camera that shows the film."""
    with chromium(
        "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"
    ) as started:
        yield started


@pytest.fixture
def open_page(browser: Any, url: str) -> Iterator[Any]:
    """A function that opens the page in a context with these options, after `script` has run in it."""
    contexts = []

    def opened(script: str = "", **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = Page(context.new_page(), url)
        page.view.on("console", lambda message: page.complaints.append(message.text))
        page.view.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.view.on("request", lambda request: page.requests.append(request.url))
        if script:
            page.view.add_init_script(script)
        page.view.goto(url)
        return page

    yield opened
    for context in contexts:
        context.close()


OUTPUTS = """async (picture) => {
  const { createModel } = await import(new URL("model.js", location.href).href);
  const bytes = Uint8Array.from(atob(picture), (one) => one.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
  const frame = new VideoFrame(bitmap, { timestamp: 0 });
  const hex = (array) => Array.from(new Uint8Array(array.buffer), (b) => b.toString(16).padStart(2, "0")).join("");
  const model = await createModel(), found = [];
  for (const one of [bitmap, frame]) {
    const pose = model.run(one);
    found.push({ pose, outputs: Object.fromEntries(model.outputs.map(({ name }) => [name, hex(model.output(name))])) });
  }
  frame.close();
  model.close();
  return found;
}"""


def test_chromium_gives_the_bits_of_wasmtime(open_page: Any, compiled_web: Compiled, example: Path) -> None:
    """In the page, from a bitmap and from a video frame; and in the worker, as the page writes the pose."""
    import base64

    want = expected(compiled_web.folder, example / "person.png")
    page = open_page()
    page.status("Ready.")
    bitmap, frame = page.view.evaluate(
        OUTPUTS, base64.b64encode((example / "person.png").read_bytes()).decode()
    )
    assert Expected(**bitmap) == want
    assert Expected(**frame) == want
    assert page.choose(example / "person.png") == want.pose
    assert page.complaints == []


def test_nothing_leaves_the_machine(open_page: Any, example: Path) -> None:
    """Every request is for a file of the page, and once it is there it works without any."""
    page = open_page()
    page.status("Ready.")
    assert page.requests
    assert all(one.startswith((page.url, "blob:")) for one in page.requests)
    loaded = len(page.requests)
    page.view.context.set_offline(True)
    page.choose(example / "drawn.jpg")
    assert [one for one in page.requests[loaded:] if not one.startswith("blob:")] == []
    assert page.complaints == []


def test_transparency_is_laid_over_white(open_page: Any, compiled_web: Compiled, tmp_path: Path) -> None:
    picture = Image.new("RGBA", (60, 80), (0, 0, 0, 0))
    picture.paste((200, 40, 60, 255), (20, 10, 40, 70))
    picture.save(tmp_path / "clear.png")
    page = open_page()
    page.status("Ready.")
    assert page.choose(tmp_path / "clear.png") == expected(compiled_web.folder, tmp_path / "clear.png").pose


def test_a_dropped_picture_and_one_that_is_none(open_page: Any, example: Path) -> None:
    page = open_page()
    page.status("Ready.")
    drop = """([name, text]) => {
      const moved = new DataTransfer();
      moved.items.add(new File([Uint8Array.from(atob(text), (one) => one.charCodeAt(0))], name));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: moved, bubbles: true, cancelable: true }));
    }"""
    import base64

    page.view.evaluate(drop, ["notes.txt", base64.b64encode(b"hello").decode()])
    page.status("notes.txt is not a picture that this browser can read.")
    page.view.evaluate(drop, ["p.png", base64.b64encode((example / "person.png").read_bytes()).decode()])
    page.status("Done.")
    assert page.view.get_by_role("img", name="p.png: the skeleton of one person").is_visible()
    assert page.complaints == []


def test_large_pictures_are_scaled(open_page: Any) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4096, 3072), (70, 90, 110)).save(stream, "PNG")
    page = open_page()
    page.status("Ready.")
    big = {"name": "big.png", "mimeType": "image/png", "buffer": stream.getvalue()}
    page.view.set_input_files("#file", big)
    page.status("Done; scaled down to 2048 x 1536 pixels.")


def test_a_film_before_the_camera(open_page: Any) -> None:
    from playwright.sync_api import expect

    page = open_page(permissions=["camera"])
    page.status("Ready.")
    page.view.get_by_role("button", name="Start the camera").click()
    page.status("The camera runs. Stand inside the frame.")
    expect(page.view.locator("html")).to_have_attribute(
        "data-frames", re.compile(r"^([4-9]\d|\d{3,})$"), timeout=PATIENCE
    )
    shown = {name: page.view.locator(f"#{name}").text_content() for name in ("fps", "network-ms", "frame-ms")}
    assert all(float(text) > 0 for text in shown.values())
    page.view.get_by_role("button", name="Stop the camera").click()
    page.status("The camera is off.")
    frames = page.view.evaluate("document.documentElement.dataset.frames")
    page.view.wait_for_timeout(300)
    assert page.view.evaluate("document.documentElement.dataset.frames") == frames
    assert page.complaints == []


NO_CAMERA = (
    "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); };"
)
BUSY = NO_CAMERA.replace("NotFoundError", "NotReadableError")
INSECURE = "Object.defineProperty(navigator, 'mediaDevices', { value: undefined });"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("", "The camera was refused. Allow it in the browser's settings of this page, then start again."),
        (NO_CAMERA, "There is no camera."),
        (BUSY, "The camera is used by another program."),
        (INSECURE, "Cameras work on https and localhost pages only."),
    ],
)
def test_what_a_camera_lacks(open_page: Any, script: str, says: str) -> None:
    page = open_page(script)
    page.status("Ready.")
    page.view.get_by_role("button", name="Start the camera").click()
    page.status(says)
    assert page.view.get_by_role("button", name="Start the camera").is_enabled()
    assert page.complaints == []


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("WebAssembly.validate = () => false;", "WebAssembly has no SIMD here: a newer browser is needed"),
        ("delete globalThis.WebAssembly;", "WebAssembly is missing or switched off here"),
        (
            "delete HTMLCanvasElement.prototype.transferControlToOffscreen;",
            "Drawing beside the page is missing here: a newer browser is needed",
        ),
    ],
)
def test_what_a_browser_lacks(open_page: Any, script: str, says: str) -> None:
    page = open_page(script)
    page.status(says)
    assert page.view.get_by_role("button", name="Start the camera").is_disabled()
    assert page.complaints == []


def test_a_file_that_is_missing_or_changed(open_page: Any, compiled_web: Compiled) -> None:
    page = open_page()
    page.status("Ready.")
    page.view.context.route("**/weights.bin", lambda route: route.fulfill(status=404, body=""))
    page.view.reload()
    page.status(re.compile(r"weights\.bin: the server answered 404.*"))
    damaged = bytearray((compiled_web.folder / "weights.bin").read_bytes())
    damaged[-1] ^= 1
    page.view.context.unroute_all()
    page.view.context.route("**/weights.bin", lambda route: route.fulfill(body=bytes(damaged)))
    page.view.reload()
    page.status("weights.bin: is not the file that was compiled (its size or SHA-256 differs)")


def test_keyboard(open_page: Any, example: Path) -> None:
    page = open_page(permissions=["camera"])
    page.status("Ready.")
    reached = []
    for _ in range(4):
        page.view.keyboard.press("Tab")
        reached.append(page.view.evaluate("document.activeElement.id || document.activeElement.localName"))
    assert reached[:3] == ["file", "camera", "summary"]
    page.view.locator("#camera").focus()
    page.view.keyboard.press("Enter")
    page.status("The camera runs. Stand inside the frame.")
    page.view.keyboard.press("Enter")
    page.status("The camera is off.")


def test_names_for_screen_readers(open_page: Any, example: Path) -> None:
    page = open_page()
    page.status("Ready.")
    tree = page.view.locator("body").aria_snapshot()
    for line in (
        'heading "Pose" [level=1]',
        'button "Choose a picture"',
        'button "Start the camera"',
        'button "Save the pose" [disabled]',
        "status: Ready.",
    ):
        assert line in tree, tree
    page.choose(example / "person.png")
    assert page.view.get_by_role("img", name="person.png: the skeleton of one person").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width_and_colours(open_page: Any, example: Path, tmp_path: Path, scheme: str) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page.status("Ready.")
    page.choose(example / "drawn.jpg")
    assert page.view.evaluate("document.documentElement.scrollWidth") <= 360
    stream = io.BytesIO(page.view.screenshot())
    corner = np.asarray(Image.open(stream).convert("L"))[2, 2]
    assert (corner < 60) == (scheme == "dark")


def test_the_skeleton_is_drawn(open_page: Any, example: Path) -> None:
    """The thighs are orange on the left and blue on the right, where the joints are."""
    page = open_page()
    page.status("Ready.")
    joints = page.choose(example / "drawn.jpg")["people"][0]["joints"]
    shot = Image.open(io.BytesIO(page.view.locator("#canvas").screenshot())).convert("RGB")
    factor = shot.width / 384
    for side, colour in (("left", (255, 150, 40)), ("right", (70, 170, 255))):
        middle = (np.array(joints[f"{side}_hip"]) + joints[f"{side}_knee"]) / 2
        x, y = (round(float(value) * factor) for value in middle)
        np.testing.assert_allclose(shot.getpixel((x, y)), colour, atol=40)  # scaled by the page


def test_saving_the_pose(open_page: Any, example: Path) -> None:
    page = open_page()
    page.status("Ready.")
    pose = page.choose(example / "person.png")
    with page.view.expect_download() as caught:
        page.view.get_by_role("button", name="Save the pose").click()
    assert caught.value.suggested_filename == "pose.json"
    assert json.loads(Path(caught.value.path()).read_text()) == pose
    assert page.complaints == []
