"""The pictures of data sets: a person's box cut out as 384x512 pixels, enlarged 1.25 times, 8 bits a colour.

Labels of sets stand in these pixels. A network that wants another input gets it from this picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bhpe_compile.networks.interface import Crop, Input, Interface
from bhpe_compile.runtime.picture import Picture, View, make_feeds

HEIGHT, WIDTH = 512, 384
ENLARGE = 1.25

FRAME = Input("picture", (1, 3, HEIGHT, WIDTH), "picture", Crop(enlarge=ENLARGE))


def framed(picture: Picture) -> View:
    """The picture as sets hold it."""
    return picture.seen_by(FRAME)


def frame_rgb(picture: Picture) -> NDArray[np.uint8]:
    """uint8 [512, 384, 3]: what a set would hold of the picture."""
    return np.asarray(np.rint(framed(picture).tensor[0].transpose(1, 2, 0) * 255), np.uint8)


def network_inputs(interface: Interface, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Every input of a network by name, from pictures of a set, uint8 [N, 512, 384, 3].

    A picture input of the same size is the picture's own pixels; for another size the person's box, which is known to
    be enlarged `ENLARGE` times, is cut out again. InputError for a network that takes no picture.
    """
    port = interface.picture
    if port is not None and len(interface.inputs) == 1 and port.size == (HEIGHT, WIDTH):
        return {port.name: pixel_values(port, pictures)}
    width, height = WIDTH / ENLARGE, HEIGHT / ENLARGE
    box = ((WIDTH - width) / 2, (HEIGHT - height) / 2, width, height)
    feeds = [make_feeds(interface, Picture(rgb, box)) for rgb in pictures]
    return {one.name: np.concatenate([feed[one.name] for feed in feeds]) for one in interface.inputs}


def pixel_values(port: Input, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W] as the input's values are: (pixel / divisor - mean) / deviation."""
    crop = port.crop or Crop()
    pixels = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), np.float32)
    if crop.order == "bgr":
        pixels = pixels[:, ::-1]
    mean, deviation = (np.array(v, np.float32)[:, None, None] for v in (crop.mean, crop.deviation))
    return np.ascontiguousarray((pixels / np.float32(crop.divisor) - mean) / deviation)
