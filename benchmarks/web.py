"""A compiled model in Debian's Chromium against onnxruntime-web, and what a user of its page notices.

    python benchmarks/web.py [--rounds 60] [--artefact FOLDER] [--full FOLDER] [--ort FOLDER] [-o results.json]

Ours is the embedded binary network, compiled for wasm32 (or the artefact given). Its peers run in the same page, in
turns, on one thread, with WebAssembly's SIMD, in onnxruntime-web of npm. Milliseconds are those that the page's thread
had a core (the kernel counts them), which other programs on the machine disturb least; `wall_ms` are a clock's:

    ort_web_float   the embedded network in full precision
    ort_web_int8    the same with Conv, Gemm and MaxPool in INT8 (QDQ, U8 activations, S8 weights with a scale per
                    channel, calibrated), which is faster there than with what lies between them

Before anything is timed, our outputs have to be the bits that wasmtime computes, and the peers' joints and boxes those
of ONNX Runtime in this process (rounding apart). Then: bytes on the wire (brotli), milliseconds to make a model from
bytes in memory, frames a second of the page with a film of 30 and of 60 frames a second before Chromium's fake camera,
and the full-size network (seeded, compiled here unless given; not with few rounds).
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import base64
import math
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from common import facts, medians, parser, ratios, report, summary
from numpy.typing import NDArray
from peers import missing, ort_session, quantize
from PIL import Image
from process import watch
from whole_network import CALIBRATION, INT8_GAPS, command, require_gaps

from bhpe_compile.artifact.web import LIBRARY, SITE, read_site
from bhpe_compile.compiler.options import CompileOptions
from bhpe_compile.compiler.pipeline import Compilation
from bhpe_compile.frontends.checkpoint import save_model
from bhpe_compile.networks.hand4whole.initialise import initialise, textured_pictures
from bhpe_compile.networks.hand4whole.module import Hand4Whole
from bhpe_compile.networks.hand4whole.presets import PRESETS
from bhpe_compile.processes import child_environment, find_program
from bhpe_compile.runtime import load_picture, make_feeds, open_session
from bhpe_compile.runtime.serve import SiteServer

Array = NDArray[Any]
Times = dict[str, list[float]]

HERE = Path(__file__).parent
DATA = HERE.parent / "bhpe_compile" / "data"
ORT = "onnxruntime-web@1.30.0"
OPERATORS = ("Conv", "Gemm", "MaxPool")
SAME = {"bbox": 0.05, "joint": 0.005}
"""Largest differences between two builds of ONNX Runtime on one float network: sums in another order."""

WARM = 40
"""Runs that are not timed: Chromium optimizes code that has run for a while."""

TURN_MS = 60
"""About how long a turn is, so that asking for it costs nothing beside it."""

FEW = 20
"""With fewer rounds the full-size network is left out."""

SECONDS = 8
"""How long a film runs before the camera is read."""


def compile_web(checkpoint: Path, folder: Path) -> Path:
    """The artefact of a checkpoint with its page."""
    words = (
        str(checkpoint),
        "--target",
        "wasm32",
        "--form",
        "web",
        "--scheme",
        "bidrn",
        "-o",
        str(folder),
        "-q",
    )
    watch(command(*words))
    return folder


def peer_models(folder: Path, picture: Array) -> tuple[dict[str, bytes], dict[str, dict[str, Array]]]:
    """The peers' files by name, and the outputs of each in ONNX Runtime here."""
    original = Compilation(CompileOptions(target="", scheme="float"), DATA / "model.pt")
    paths = {"float": folder / "float.onnx", "int8": folder / "int8.onnx"}
    ir.save(original.exported, paths["float"])
    clouds = textured_pictures(CALIBRATION - 1, PRESETS["tiny"].image, torch.Generator().manual_seed(1))
    pictures = [picture, *(cloud[None].numpy() for cloud in clouds)]
    quantize(paths["float"], paths["int8"], "image", pictures, OPERATORS)
    outputs = {}
    for name, path in paths.items():
        session = ort_session(path)
        names = [one.name for one in session.get_outputs()]
        outputs[f"ort_web_{name}"] = dict(zip(names, session.run(None, {"image": picture}), strict=True))
    return {f"{name}.bin": path.read_bytes() for name, path in paths.items()}, outputs


def ort_files(given: Path | None, folder: Path) -> dict[str, bytes]:
    """What a page loads of onnxruntime-web, installed by npm unless given; empty where that cannot be had."""
    if given is None:
        npm = find_program("npm")
        if npm is None:
            return {}
        words = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), ORT]
        if subprocess.run(words, env=child_environment(), capture_output=True, check=False).returncode:
            return {}
        given = folder / "node_modules" / "onnxruntime-web"
    names = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
    return {f"ort/{name}": (given / "dist" / name).read_bytes() for name in names}


@contextmanager
def served(site: Mapping[str, bytes]) -> Iterator[str]:
    """The site's address."""
    with SiteServer(site, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


@contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=find_program("chromium"), args=list(options))
        yield browser
        browser.close()


def decoded(outputs: Mapping[str, str], like: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs that a page wrote as base64."""
    return {
        name: np.frombuffer(base64.b64decode(text), like[name].dtype).reshape(like[name].shape)
        for name, text in outputs.items()
    }


def in_wasmtime(artefact: Path, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs."""
    with open_session(artefact) as session:
        return dict(session.execute(feeds).outputs)


def check_outputs(found: Mapping[str, Mapping[str, str]], artefact: Path, feeds: Any, peers: Any) -> None:
    """SystemExit where a model in the page computes something else than outside."""
    want = in_wasmtime(artefact, feeds)
    got = decoded(found["bhpe"], want)
    for name, array in want.items():
        if array.tobytes() != got[name].tobytes():
            raise SystemExit(f"{name} is not what wasmtime computes; not timed")
    for name, expected in peers.items():
        allowed = SAME if name == "ort_web_float" else INT8_GAPS
        require_gaps(name, decoded(found[name], expected), expected, allowed)


class Clock:
    """Nanoseconds that the main thread of a page's process has had a core."""

    def __init__(self, browser: Any, page: Any) -> None:
        listed = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        self._tasks = [Path(f"/proc/{one['id']}/schedstat") for one in listed if one["type"] == "renderer"]
        before = self._read()
        page.evaluate("window.turn('bhpe', 20)")
        spent = [after - start for after, start in zip(self._read(), before, strict=True)]
        self._tasks = [self._tasks[spent.index(max(spent))]]  # the others are spare processes

    def _read(self) -> list[int]:
        return [int(task.read_text().split()[0]) for task in self._tasks]

    def now(self) -> int:
        return self._read()[0]


def timed(browser: Any, page: Any, names: Iterable[str], rounds: int) -> tuple[Times, Times]:
    """Milliseconds of a run by model, on a core and by the clock, in turns that last about as long for each."""
    clock = Clock(browser, page)

    def turn(name: str, count: int) -> tuple[float, float]:
        start = clock.now()
        wall = page.evaluate(f"window.turn('{name}', {count})")
        return (clock.now() - start) / 1e6 / count, wall / count

    fastest = {name: min(turn(name, 5)[0] for _ in range(WARM // 5)) for name in names}
    counts = {name: max(1, round(TURN_MS / one)) for name, one in fastest.items()}
    core: Times = {name: [] for name in fastest}
    wall: Times = {name: [] for name in fastest}
    for _ in range(rounds):
        for name, count in counts.items():
            for times, value in zip((core, wall), turn(name, count), strict=True):
                times[name].append(value)
    return core, wall


def brotli_sizes(site: Mapping[str, bytes]) -> dict[str, int]:
    """Bytes of each file as servers send it, by Node's brotli at its best."""
    code = (
        "const z=require('zlib'),c=z.constants,b=require('fs').readFileSync(0);"
        "process.stdout.write(String(z.brotliCompressSync(b,{params:{[c.BROTLI_PARAM_QUALITY]:11,"
        "[c.BROTLI_PARAM_LGWIN]:24}}).length))"
    )
    words, environment = [find_program("node") or "node", "-e", code], child_environment()
    return {
        name: int(
            subprocess.run(words, env=environment, input=content, capture_output=True, check=True).stdout
        )
        for name, content in site.items()
    }


def make_film(file: Path, fps: int) -> Path:
    """A drawn person who moves to and fro, 640 x 480, four seconds."""
    person = Image.open(DATA / "drawn.jpg").convert("RGB").resize((360, 480))
    with file.open("wb") as stream:
        stream.write(f"YUV4MPEG2 W640 H480 F{fps}:1 Ip A1:1 C420jpeg\n".encode())
        for i in range(4 * fps):
            frame = Image.new("RGB", (640, 480), (90, 110, 120))
            frame.paste(person, (140 + round(60 * math.sin(math.pi * i / (2 * fps))), 0))
            y, cb, cr = frame.convert("YCbCr").split()
            half = b"".join(plane.resize((320, 240)).tobytes() for plane in (cb, cr))
            stream.write(b"FRAME\n" + y.tobytes() + half)
    return file


def frames_a_second(site: Mapping[str, bytes], folder: Path, fps: int) -> float:
    """What the page shows of a film before the camera."""
    film = make_film(folder / f"film{fps}.y4m", fps)
    options = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}")
    read = "() => ['frames', 'seconds'].map((name) => Number(document.documentElement.dataset[name] ?? 0))"
    with served(site) as url, chromium(*options) as browser:
        context = browser.new_context(permissions=["camera"])
        page = context.new_page()
        page.goto(url)
        page.locator("#camera:enabled").click()
        page.locator("html[data-frames]").wait_for(state="attached")
        page.wait_for_timeout(2000)  # the code is optimized meanwhile
        before = page.evaluate(read)
        page.wait_for_timeout(SECONDS * 1000)
        after = page.evaluate(read)
    return round((after[0] - before[0]) / (after[1] - before[1]), 1)


def full_size(artefact: Path) -> dict[str, Any]:
    """Milliseconds of a picture through the full-size network in the page."""
    feeds = embedded_feeds(artefact)
    with served(bench_site(artefact, feeds)) as url, chromium() as browser:
        page = browser.new_page()
        page.goto(f"{url}bench.html")
        prepared = page.evaluate("window.prepared(false)")
        check_outputs(prepared["found"], artefact, feeds, {})
        core, wall = timed(browser, page, prepared["found"], 5)
    return {
        **summary(core),
        "wall_ms": {name: round(value, 1) for name, value in medians(wall).items()},
        "memory_mb": round(prepared["memory"] / 1e6, 1),
    }


def embedded_feeds(artefact: Path) -> dict[str, Array]:
    """The embedded picture as the network takes it."""
    with open_session(artefact) as session:
        return make_feeds(session.interface, load_picture(DATA / "person.png"))


def bench_site(
    artefact: Path, feeds: Mapping[str, Array], more: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """The artefact's files, the page that measures, and what it reads."""
    pages = {file.name: file.read_bytes() for file in (HERE / "web_page").iterdir()}
    return {**read_site(artefact), **pages, "input.bin": feeds["image"].tobytes(), **(more or {})}


def measure(folder: Path, rounds: int, artefact: Path, full: Path | None, ort: Path | None) -> dict[str, Any]:
    """All figures."""
    feeds = embedded_feeds(artefact)
    files = ort_files(ort, folder)
    models, expected = peer_models(folder, feeds["image"]) if files else ({}, {})
    site = read_site(artefact)
    with served(bench_site(artefact, feeds, {**files, **models})) as url, chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(f"{url}bench.html")
        started = page.evaluate("window.started(9)")
        prepared = page.evaluate(f"window.prepared({'true' if files else 'false'})")
        check_outputs(prepared["found"], artefact, feeds, expected)
        core, wall = timed(browser, page, prepared["found"], rounds)
        version = browser.version
    sizes = brotli_sizes(site) if find_program("node") else {}
    wire = [name for name in (*LIBRARY, *SITE) if name in sizes and not name.endswith((".ts", ".svg"))]
    named = {"web_vs_ort_web_fp32": "ort_web_float", "web_vs_ort_web_int8": "ort_web_int8"}
    return {
        **facts(),
        **summary(core),
        "wall_ms": {name: round(value, 1) for name, value in medians(wall).items()},
        "chromium": version,
        "ratios": ratios(core, "bhpe", named),
        "start_ms": {"median": round(statistics.median(started), 1), "fastest": round(min(started), 1)},
        "memory_mb": round(prepared["memory"] / 1e6, 1),
        "bytes": {name: len(content) for name, content in site.items()},
        "brotli_bytes": {**sizes, "page": sum(sizes[name] for name in wire)},
        "frames_a_second": {str(fps): frames_a_second(site, folder, fps) for fps in (30, 60)},
        **({"full": full_size(full)} if full else {}),
        "missing": [] if files else [ORT],
    }


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__, rounds=60)
    arguments.add_argument(
        "--artefact", type=Path, help="the embedded binary network, compiled with --form web"
    )
    arguments.add_argument("--full", type=Path, help="the full-size network, compiled with --form web")
    arguments.add_argument("--ort", type=Path, help="onnxruntime-web as npm installed it")
    args = arguments.parse_args()
    absent = [*missing("playwright", "wasmtime"), *(["chromium"] if find_program("chromium") is None else [])]
    if absent:
        report({**facts(), "ratios": {}, "missing": absent}, args.output)
        return
    with tempfile.TemporaryDirectory(prefix="bhpe-bench-") as name:
        folder = Path(name)
        artefact = args.artefact or compile_web(DATA / "model-bidrn.pt", folder / "tiny")
        full = args.full
        if full is None and args.rounds >= FEW:
            save_model(folder / "full.pt", initialise(Hand4Whole(PRESETS["full"]), 0), "hand4whole:full")
            full = compile_web(folder / "full.pt", folder / "full")
        figures = measure(folder, args.rounds, artefact, full, args.ort)
    report(figures, args.output)


if __name__ == "__main__":
    main()
