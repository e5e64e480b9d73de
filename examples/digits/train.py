"""Train the digits network and write `digits.caffemodel`, as Caffe would have saved it, and images to quantise it with.

Needs `pip install torch scikit-learn`; the images come with scikit-learn. Every fifth image is held out; the accuracy
on those is printed. The same seed gives the same file on the same torch build.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import porter
from porter.store import TensorStore
from porter.tensor import Tensor

HERE = Path(__file__).parent


def load() -> tuple[torch.Tensor, torch.Tensor]:
    """All images as `(N, 1, 8, 8)` float32 from 0 to 1, and their digits as `(N,)` int64."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    return images, torch.tensor(digits.target)


def save_images(images: torch.Tensor, labels: torch.Tensor, held_out: torch.Tensor) -> None:
    """Write the held-out images, and the first hundred of the others, as grey values from 0 to 16: `data` and `digit`."""
    grey, digits = (images * 16).to(torch.uint8).numpy(), labels.to(torch.uint8).numpy()
    held = held_out.numpy()
    np.savez_compressed(HERE / "held-out.npz", data=grey[held], digit=digits[held])
    np.savez_compressed(HERE / "calibration.npz", data=grey[~held][:100], digit=digits[~held][:100])


def network() -> nn.Sequential:
    """The layers of digits.prototxt, in its order, without the softmax."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.PReLU(32),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 2 * 2, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train(net: nn.Sequential, images: torch.Tensor, labels: torch.Tensor, epochs: int = 40) -> None:
    """Adam on shuffled batches of 64, with a falling learning rate."""
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    net.eval()


def caffe_store(net: nn.Sequential) -> TensorStore:
    """The trained values under Caffe's layer names and roles; the scale factor is what Caffe divides its sums by."""
    conv1, bn1, conv2, prelu2, fc1, fc2 = (net[i] for i in (0, 1, 4, 5, 8, 10))
    values = {
        "conv1.weight": conv1.weight,
        "bn1.mean": bn1.running_mean,
        "bn1.variance": bn1.running_var,
        "bn1.scale_factor": torch.ones(1),
        "scale1.weight": bn1.weight,
        "scale1.bias": bn1.bias,
        "conv2.weight": conv2.weight,
        "conv2.bias": conv2.bias,
        "prelu2.slope": prelu2.weight,
        "fc1.weight": fc1.weight,
        "fc1.bias": fc1.bias,
        "fc2.weight": fc2.weight,
        "fc2.bias": fc2.bias,
    }
    return TensorStore(Tensor.from_array(name, value.detach().numpy().copy()) for name, value in values.items())


def main() -> None:
    """Train, report the accuracy on the held-out images, and write the weights."""
    torch.manual_seed(7)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    images, labels = load()
    held_out = torch.from_numpy(np.arange(len(images)) % 5 == 0)
    save_images(images, labels, held_out)
    net = network()
    train(net, images[~held_out], labels[~held_out])
    with torch.no_grad():
        right = (net(images[held_out]).argmax(1) == labels[held_out]).float().mean().item()
    print(f"accuracy on {int(held_out.sum())} held-out images: {right:.2%}")
    report = porter.save(caffe_store(net), HERE / "digits.caffemodel", net=HERE / "digits.prototxt", overwrite=True)
    print(f"wrote {report.tensors} tensors, {report.nbytes:,} bytes")


if __name__ == "__main__":
    main()
