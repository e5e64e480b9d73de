"""The versions that a bug report needs, without importing what is asked about."""

from __future__ import annotations

from collections.abc import Iterator

LIBRARIES = (
    ("click", "numpy", "ml_dtypes", "protobuf", "onnx", "onnx_ir", "h5py", "lark", "rich"),
    ("torch", "tensorrt-rtx", "tensorrt", "onnxruntime", "opencv-python-headless", "matplotlib"),
)
"""What porter depends on, and what its extras add."""


def versions() -> Iterator[tuple[str, str]]:
    """porter, Python, the platform, then the libraries, as name and version."""
    import platform
    import sys
    from importlib.metadata import PackageNotFoundError, version

    from porter import __version__

    yield "porter", __version__
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "platform", platform.platform()
    for names, absent in zip(LIBRARIES, ("MISSING", "not installed"), strict=True):
        for name in names:
            try:
                yield name, version(name)
            except PackageNotFoundError:
                yield name, absent
