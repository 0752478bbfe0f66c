"""What stands behind the people: drawn from formulas. No background is in both splits.

    both   gradient, clouds, stripes, bricks, boxes, landscape, room, blobs, glow, checks, shards, street
    test   marble, planks, hills, shelves: a third of its pictures; training never saw the like

No picture of anybody is used, so there is nothing to license and no real person in the set.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from bhpe_compile.evaluate.frame import HEIGHT, WIDTH
from bhpe_compile.evaluate.synth.streams import Split

Random = np.random.Generator
Colour = tuple[int, int, int]
SIZE = (WIDTH, HEIGHT)


def sample_background(rng: Random, split: Split) -> NDArray[np.uint8]:
    """uint8 [512, 384, 3]."""
    families = FAMILIES[split]
    image = families[rng.integers(len(families))](rng)
    if rng.random() < 0.5:
        image = _rough(rng, image, rng.uniform(0.03, 0.25))
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.BoxBlur(float(rng.uniform(0.7, 5.0))))
    return np.asarray(image)


def _colour(rng: Random) -> Colour:
    hue, saturation = rng.random(), rng.beta(1.2, 2.5)
    r, g, b = colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.12, 0.98))
    return int(255 * r), int(255 * g), int(255 * b)


def _near(rng: Random, colour: Colour, spread: float) -> Colour:
    r, g, b = (
        (np.array(colour) * rng.normal(1, spread) + rng.normal(0, 60 * spread, 3)).clip(0, 255).astype(int)
    )
    return int(r), int(g), int(b)


def _grid(rng: Random, rows: int, columns: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Random grey values of a coarse grid, drawn smoothly over the picture."""
    values = rng.integers(0, 256, (rows, columns), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def _noise(rng: Random, octaves: int, start: float) -> Image.Image:
    """Grey value noise of several scales."""
    total = _grid(rng, int(start * 4) + 2, int(start * 3) + 2)
    for octave in range(1, octaves):
        cells = start * 2**octave
        layer = _grid(rng, int(cells * 4) + 2, int(cells * 3) + 2)
        total = Image.blend(total, layer, 0.38)
    return total


def _mix(a: Colour, b: Colour, mask: Image.Image) -> Image.Image:
    return Image.composite(Image.new("RGB", SIZE, a), Image.new("RGB", SIZE, b), mask)


def _rough(rng: Random, image: Image.Image, strength: float) -> Image.Image:
    texture = _noise(rng, 3, float(rng.uniform(2, 14)))
    dark, light = Image.new("RGB", SIZE, _near(rng, (20, 20, 20), 0.3)), image
    return Image.composite(Image.blend(light, dark, strength), light, texture)


def _stretched(mask: Image.Image, contrast: float) -> Image.Image:
    table = [int(min(max((v - 127.5) * contrast + 127.5, 0), 255)) for v in range(256)]
    return mask.point(table)


def gradient(rng: Random) -> Image.Image:
    """From one colour to another, straight across."""
    rows, columns = (2, 1) if rng.random() < 0.6 else (2, 2)
    values = np.array([[_colour(rng) for _ in range(columns)] for _ in range(rows)], np.uint8)
    return Image.fromarray(values).resize(SIZE, Image.Resampling.BILINEAR)


def clouds(rng: Random) -> Image.Image:
    """Noise of several scales between two or three colours."""
    base = _mix(_colour(rng), _colour(rng), _noise(rng, int(rng.integers(2, 5)), float(rng.uniform(0.6, 5))))
    mask = _stretched(_noise(rng, 3, float(rng.uniform(0.6, 4))), 3)
    return Image.composite(Image.new("RGB", SIZE, _colour(rng)), base, mask)


def stripes(rng: Random) -> Image.Image:
    """Parallel bands of changing width, at any angle."""
    side = 700
    image = Image.new("RGB", (side, side), _colour(rng))
    draw = ImageDraw.Draw(image)
    palette = [_colour(rng) for _ in range(int(rng.integers(2, 5)))]
    at, width = 0.0, float(rng.uniform(6, 70))
    while at < side:
        step = width * float(rng.uniform(0.5, 1.5))
        draw.rectangle((at, 0, at + step, side), fill=palette[int(rng.integers(len(palette)))])
        at += step
    turned = image.rotate(float(rng.choice([0, 90, rng.uniform(0, 180)])), Image.Resampling.NEAREST)
    left, top = (side - WIDTH) // 2, (side - HEIGHT) // 2
    return turned.crop((left, top, left + WIDTH, top + HEIGHT))


def bricks(rng: Random) -> Image.Image:
    """A wall of bricks or tiles with joints between them."""
    colour, joint = _colour(rng), _colour(rng)
    image = Image.new("RGB", SIZE, joint)
    draw = ImageDraw.Draw(image)
    height = float(rng.uniform(12, 60))
    width = height * float(rng.uniform(1.0, 3.0))
    gap, shift, spread = (
        float(rng.uniform(1, 4)),
        float(rng.choice([0.0, 0.5])),
        float(rng.uniform(0.02, 0.2)),
    )
    for row in range(int(HEIGHT / height) + 2):
        offset = (row % 2) * shift * width
        for column in range(-1, int(WIDTH / width) + 2):
            x, y = column * width + offset, row * height
            draw.rectangle((x, y, x + width - gap, y + height - gap), fill=_near(rng, colour, spread))
    return image


def boxes(rng: Random) -> Image.Image:
    """A clutter of boxes, such as furniture, on a wall and a floor."""
    image = _wall_and_floor(rng)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 16))):
        w, h = rng.uniform(20, 190), rng.uniform(20, 230)
        x, y = rng.uniform(-40, WIDTH), rng.uniform(40, HEIGHT)
        colour, d = _colour(rng), rng.uniform(5, 30)
        draw.rectangle((x, y, x + w, y + h), fill=colour)
        top = [(x, y), (x + d, y - d), (x + w + d, y - d), (x + w, y)]
        draw.polygon(top, fill=_near(rng, tuple(min(255, int(1.3 * c)) for c in colour), 0.02))  # type: ignore[arg-type]
        side = [(x + w, y), (x + w + d, y - d), (x + w + d, y + h - d), (x + w, y + h)]
        draw.polygon(side, fill=_near(rng, tuple(int(0.6 * c) for c in colour), 0.02))  # type: ignore[arg-type]
    return image


def landscape(rng: Random) -> Image.Image:
    """A sky, a ground, and bushes."""
    sky = Image.fromarray(np.array([[_colour(rng)], [_colour(rng)]], np.uint8)).resize(SIZE)
    ground = _mix(_colour(rng), _colour(rng), _noise(rng, 4, float(rng.uniform(4, 12))))
    horizon = int(rng.uniform(0.3, 0.8) * HEIGHT)
    sky.paste(ground.crop((0, horizon, WIDTH, HEIGHT)), (0, horizon))
    draw = ImageDraw.Draw(sky)
    green = _colour(rng)
    for _ in range(int(rng.integers(0, 40))):
        x, r = rng.uniform(0, WIDTH), rng.uniform(8, 45)
        y = horizon - r * rng.uniform(0, 1)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_near(rng, green, 0.15))
    return sky


def _wall_and_floor(rng: Random) -> Image.Image:
    image = Image.new("RGB", SIZE, _colour(rng))
    draw = ImageDraw.Draw(image)
    edge, tilt = rng.uniform(0.55, 0.92) * HEIGHT, rng.normal(0, 25)
    floor = [(0, edge + tilt), (WIDTH, edge - tilt), (WIDTH, HEIGHT), (0, HEIGHT)]
    draw.polygon(floor, fill=_colour(rng))
    if rng.random() < 0.5:
        width = int(rng.uniform(2, 10))
        draw.line(floor[:2], fill=_colour(rng), width=width)
    return image


def room(rng: Random) -> Image.Image:
    """A wall with windows, doors and pictures, and a floor."""
    image = _wall_and_floor(rng)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 7))):
        w, h = rng.uniform(30, 150), rng.uniform(30, 260)
        x, y = rng.uniform(-30, WIDTH - 20), rng.uniform(-30, HEIGHT * 0.55)
        draw.rectangle(
            (x, y, x + w, y + h), fill=_colour(rng), outline=_colour(rng), width=int(rng.uniform(1, 9))
        )
        for k in range(int(rng.integers(0, 4))):
            at = x + w * (k + 1) / 4
            draw.line((at, y, at, y + h), fill=_colour(rng), width=2)
    return image


def blobs(rng: Random) -> Image.Image:
    """Discs of many sizes."""
    image = Image.new("RGB", SIZE, _colour(rng))
    draw = ImageDraw.Draw(image)
    largest = rng.uniform(15, 120)
    for _ in range(int(rng.integers(10, 90))):
        x, y, r = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(3, largest)
        s = r * rng.uniform(0.5, 1.5)
        draw.ellipse((x - r, y - s, x + r, y + s), fill=_colour(rng))
    return image


def glow(rng: Random) -> Image.Image:
    """Round patches of light on a plain ground."""
    image = Image.new("RGB", SIZE, _colour(rng))
    for _ in range(int(rng.integers(1, 5))):
        r = int(rng.uniform(120, 500))
        spot = Image.radial_gradient("L").resize((2 * r, 2 * r)).point([255 - v for v in range(256)])
        x, y = int(rng.uniform(-r, WIDTH - r)), int(rng.uniform(-r, HEIGHT - r))
        image.paste(Image.new("RGB", (2 * r, 2 * r), _colour(rng)), (x, y), spot)
    return image


def marble(rng: Random) -> Image.Image:
    """Veins: a wave, disturbed by noise."""
    noise = np.asarray(_noise(rng, 3, float(rng.uniform(0.8, 3))), np.float32)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    wave = np.sin(
        (np.cos(turn) * x + np.sin(turn) * y) * rng.uniform(0.01, 0.1) + noise * rng.uniform(0.02, 0.09)
    )
    return _mix(_colour(rng), _colour(rng), Image.fromarray((127.5 + 127 * wave).astype(np.uint8)))


def checks(rng: Random) -> Image.Image:
    """A chessboard, upright or lying on the ground in perspective."""
    cells = np.add.outer(np.arange(160), np.arange(160))
    a, b = np.array(_colour(rng), np.uint8), np.array(_colour(rng), np.uint8)
    board = Image.fromarray(np.where((cells % 2 == 0)[..., None], a, b).astype(np.uint8))
    scale = float(rng.uniform(0.02, 0.09))
    turn = rng.uniform(-0.8, 0.8)
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    if rng.random() < 0.5:
        return board.transform(SIZE, Image.Transform.AFFINE, (c, -s, 80, s, c, 80))
    slope = float(rng.uniform(0.001, 0.004))
    coefficients = (c, -s, 80, s, c, 80, 0.0, slope)
    return board.transform(SIZE, Image.Transform.PERSPECTIVE, coefficients)


def planks(rng: Random) -> Image.Image:
    """Boards with a grain."""
    tone, across = _colour(rng), rng.random() < 0.5
    image = Image.new("RGB", SIZE, tone)
    draw = ImageDraw.Draw(image)
    width, at = float(rng.uniform(15, 80)), 0.0
    length = HEIGHT if across else WIDTH
    while at < length:
        box = (0, at, WIDTH, at + width - 2) if across else (at, 0, at + width - 2, HEIGHT)
        draw.rectangle(box, fill=_near(rng, tone, 0.12))
        at += width
    fine, coarse = int(rng.uniform(60, 200)), int(rng.uniform(3, 10))
    grain = _grid(rng, *((fine, coarse) if across else (coarse, fine)))
    return Image.composite(Image.blend(image, Image.new("RGB", SIZE, (0, 0, 0)), 0.35), image, grain)


def shards(rng: Random) -> Image.Image:
    """Triangles all over."""
    image = Image.new("RGB", SIZE, _colour(rng))
    draw = ImageDraw.Draw(image)
    size = rng.uniform(40, 260)
    for _ in range(int(rng.integers(10, 80))):
        centre = rng.uniform(0, 1, 2) * SIZE
        draw.polygon([tuple(p) for p in centre + rng.normal(0, size / 2, (3, 2))], fill=_colour(rng))
    return image


def hills(rng: Random) -> Image.Image:
    """Ridges, one behind the other."""
    image = Image.new("RGB", SIZE, _colour(rng))
    draw = ImageDraw.Draw(image)
    x = np.linspace(0, WIDTH, 40)
    for level in np.linspace(rng.uniform(0.2, 0.5), rng.uniform(0.7, 0.95), int(rng.integers(2, 6))):
        y = level * HEIGHT + sum(
            rng.uniform(5, 60) / k * np.sin(k * x / 60 + rng.uniform(0, 6)) for k in (1, 2, 4)
        )
        draw.polygon([*zip(x, y, strict=True), (WIDTH, HEIGHT), (0, HEIGHT)], fill=_colour(rng))
    return image


def street(rng: Random) -> Image.Image:
    """House fronts with windows above a pavement."""
    image = Image.new("RGB", SIZE, _colour(rng))
    draw = ImageDraw.Draw(image)
    at = -rng.uniform(0, 80)
    while at < WIDTH:
        width, top = rng.uniform(60, 220), rng.uniform(-60, 250)
        wall, pane = _colour(rng), _colour(rng)
        draw.rectangle((at, top, at + width, HEIGHT), fill=wall)
        w, h = rng.uniform(12, 40), rng.uniform(15, 55)
        for y in np.arange(top + 12, HEIGHT, h * 1.7):
            for x in np.arange(at + 8, at + width - w, w * 1.6):
                draw.rectangle((x, y, x + w, y + h), fill=_near(rng, pane, 0.12))
        at += width
    draw.rectangle((0, rng.uniform(0.75, 1.0) * HEIGHT, WIDTH, HEIGHT), fill=_colour(rng))
    return image


def shelves(rng: Random) -> Image.Image:
    """Shelves full of books."""
    image = Image.new("RGB", SIZE, _colour(rng))
    draw = ImageDraw.Draw(image)
    height, board = float(rng.uniform(50, 130)), _colour(rng)
    palette = [_colour(rng) for _ in range(8)]
    y = -rng.uniform(0, height)
    while y < HEIGHT:
        x = 0.0
        while x < WIDTH:
            w, h = rng.uniform(5, 26), height * rng.uniform(0.55, 0.92)
            if rng.random() < 0.9:
                draw.rectangle((x, y + height - h, x + w, y + height), fill=palette[int(rng.integers(8))])
            x += w + 1
        draw.rectangle((0, y + height, WIDTH, y + height + 6), fill=board)
        y += height + 6
    return image


Family = Callable[[Random], Image.Image]

COMMON: tuple[Family, ...] = (
    gradient,
    clouds,
    stripes,
    bricks,
    boxes,
    landscape,
    room,
    blobs,
    glow,
    checks,
    shards,
    street,
)
UNSEEN: tuple[Family, ...] = (marble, planks, hills, shelves)

FAMILIES: dict[Split, tuple[Family, ...]] = {
    "train": COMMON,
    "test": COMMON + UNSEEN + UNSEEN[:2],
}
