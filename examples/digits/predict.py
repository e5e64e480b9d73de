"""Read a digit with the network that `porter port` wrote: `python3 predict.py ported seven.pgm`.

Needs `pip install numpy onnxruntime torch`. The image is a text PGM of 8x8 grey values from 0 to 16, ink being bright.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch


def image(path: Path) -> np.ndarray:
    """The grey values of a text PGM as the network takes them: float32 of shape (1, 1, height, width)."""
    words = [word for line in path.read_text().splitlines() for word in line.partition("#")[0].split()]
    assert words[0] == "P2", "a text PGM begins with P2"
    width, height = int(words[1]), int(words[2])
    return np.array(words[4:], np.float32).reshape(1, 1, height, width)


def with_onnxruntime(folder: Path, x: np.ndarray) -> np.ndarray:
    """The probability of each digit."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    probabilities: np.ndarray = session.run(["prob"], {"data": x})[0][0]
    return probabilities


def with_pytorch(folder: Path, x: np.ndarray) -> np.ndarray:
    """The same from the source and the state for PyTorch."""
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.Net().eval()
    net.load_state_dict(torch.load(folder / "model.pth", weights_only=True))
    with torch.inference_mode():
        probabilities: np.ndarray = net(torch.from_numpy(x))[0].numpy()
    return probabilities


def main() -> None:
    """Print what both read."""
    folder, x = Path(sys.argv[1]), image(Path(sys.argv[2]))
    for name, probabilities in (("onnxruntime", with_onnxruntime(folder, x)), ("PyTorch", with_pytorch(folder, x))):
        digit = int(probabilities.argmax())
        print(f"{name:<12} {digit}  {probabilities[digit]:.1%}")


if __name__ == "__main__":
    main()
