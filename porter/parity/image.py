"""An image as a network is fed it: resized to the input, channels in the order that is stated, less a mean, times a scale."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from porter.errors import MissingDependencyError, UsageError, access_error
from porter.graph.feeds import Given
from porter.graph.preprocessing import Preprocessing, Wanted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def image_for(
    inputs: Mapping[str, Given], path: str, said: Wanted | None, known: Sequence[Preprocessing], caffe: bool
) -> tuple[str, NDArray[Any], list[str]]:
    """The input that the image at `path` is for, its values of shape (N, C, H, W) in float32, and what was done, a line each.

    said: what the caller states, the order of channels being the one that the network is fed. known: what the network's files say. caffe:
    whether channels are blue, green and red where nothing says.

    Raises:
        UsageError: no input, or several, take an image, or the preprocessing does not fit.
        FileAccessError, MissingDependencyError: the image cannot be read.
    """
    import numpy as np

    name, (count, channels, height, width) = _input(inputs, said)
    base = next((p for p in known if p.input == name), Preprocessing(name))
    mean = base.mean if said is None or said.mean is None else said.mean
    scale = base.scale if said is None or said.scale is None else said.scale
    order = (said.channels if said is not None else None) or base.channels or ("BGR" if caffe else "RGB")
    if base.mean_file and (said is None or said.mean is None):
        hint = "'--preprocess mean=104,117,123' states a mean"
        raise UsageError("U954", f"the net takes the image '{base.mean_file}' from its input, which is not done here", hint=hint)
    if len(mean) not in (0, 1, channels):
        raise UsageError(
            "U954", f"the mean has {len(mean)} numbers, and the input {channels} channels", hint="one number, or one a channel"
        )
    pixels, changed = _pixels(path, channels, height, width, order)
    values = pixels.astype(np.float32).transpose(2, 0, 1)
    with np.errstate(over="ignore"):
        values = (values - np.asarray(mean or 0, np.float32).reshape(-1, 1, 1)) * np.float32(scale)
    if not np.isfinite(values).all():
        raise UsageError("U954", "after the preprocessing the image has numbers that are too large for float32", hint="a mean is about 100")
    values = np.ascontiguousarray(np.broadcast_to(values, (count, channels, height, width)))
    done = [order] if channels == 3 else []
    done += changed
    done += [f"less {', '.join(f'{m:g}' for m in mean)}"] if mean else []
    done += [f"times {scale:g}"] if scale != 1 else []
    done += [f"{count} times"] if count > 1 else []
    return name, values, [f"'{name}' is fed the image '{path}': {', '.join(done) or 'as it is'}, values from 0 to 255 before that"]


def _input(inputs: Mapping[str, Given], said: Wanted | None) -> tuple[str, tuple[int, int, int, int]]:
    shapes = {name: given.shape or () for name, given in inputs.items()}
    images = [name for name, shape in shapes.items() if len(shape) == 4 and shape[1] in (1, 3) and None not in shape[1:]]
    if said is not None and said.input is not None:
        images = [n for n in images if n == said.input]
    if len(images) != 1:
        what = (
            f"several inputs may be images: {', '.join(images)}" if images else "no input is known to be an image of one or three channels"
        )
        hint = "'--preprocess input=data' says which, '--input-shape data=1x3x224x224' how large"
        raise UsageError("U954", what, hint=hint)
    count, channels, height, width = (1 if n is None else n for n in shapes[images[0]])
    return images[0], (count, channels, height, width)


def _pixels(path: str, channels: int, height: int, width: int, order: str) -> tuple[NDArray[np.uint8], list[str]]:
    """Pixels of shape (H, W, C), and in words what was done to get them. Reads the file."""
    import numpy as np

    try:
        import cv2
    except ImportError as error:
        hint = "pip install 'opencv-python-headless<5'"
        raise MissingDependencyError("D004", f"OpenCV is needed to read images: {error}", hint=hint) from error
    try:
        with open(path, "rb") as file:
            data = np.frombuffer(file.read(), np.uint8)
    except OSError as error:
        raise access_error(error, path, "reading the image") from error
    # As the file has it; then as it is fed, turned upright where the file says so.
    plain = _decoded(data, cv2.IMREAD_UNCHANGED) if data.size else None
    image = _decoded(data, cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE) if plain is not None else None
    if plain is None or image is None:
        raise UsageError("U954", "this is no image that OpenCV reads", path=path, hint="PNG, JPEG, PGM and PPM are read")
    if plain.dtype != np.uint8:
        said = f"the image's numbers are {plain.dtype}, and a network is fed those from 0 to 255"
        raise UsageError("U954", said, path=path, hint="write it with 8 bits a channel, or feed an array: '--input x.npz'")
    size = image.shape[:2]
    if size != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    pixels = np.asarray(image, np.uint8).reshape(height, width, channels)
    left_out = _left_out(plain, channels)
    done = [f"without {left_out}"] if left_out else []
    done += [f"resized from {size[0]}×{size[1]} to {height}×{width}, bilinear"] if size != (height, width) else []
    return (pixels[..., ::-1] if channels == 3 and order == "RGB" else pixels), done


def _decoded(data: NDArray[np.uint8], flags: int) -> NDArray[Any] | None:
    """The image; None where OpenCV cannot read it, which it and the libraries that it uses would say on stderr as well."""
    import cv2

    try:
        with _silence():
            return cv2.imdecode(data, flags)
    except cv2.error:
        return None


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing that is written to the process's stderr gets there, whatever library writes it."""
    with ExitStack() as stack:
        # stderr may be closed: then there is nothing to keep still.
        with suppress(OSError):
            kept = os.dup(2)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, nowhere)
            os.dup2(nowhere, 2)
        yield


def _left_out(before: NDArray[Any], channels: int) -> str:
    """What a network of so many channels is not fed of the image."""
    there = before.shape[2] if before.ndim == 3 else 1
    left = ["its colours"] if channels == 1 and there >= 3 else []
    return " and ".join([*left, *(["its transparency"] if there in (2, 4) else [])])
