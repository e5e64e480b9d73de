"""The explanations of the error codes, from `porter/error_codes/*.toml`."""

from __future__ import annotations

from dataclasses import dataclass

AREAS = {
    "common": "Any format",
    "caffe": "Caffe",
    "pytorch": "PyTorch",
    "onnx": "ONNX",
    "wts": ".wts",
    "hdf5": "HDF5",
    "safetensors": "safetensors",
    "npz": "NumPy",
    "check": "Comparing",
    "cli": "The command line",
}
"""Files of explanations, by the first digit of their codes, with a heading each."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one code means: a title of one line, and a text of a few sentences."""

    code: str
    area: str
    title: str
    text: str


def explanations() -> dict[str, Explanation]:
    """All explanations by code, in the order of their areas. Reads the packaged files."""
    import tomllib
    from importlib.resources import files

    found: dict[str, Explanation] = {}
    folder = files("porter") / "error_codes"
    for area in AREAS:
        file = folder / f"{area}.toml"
        if file.is_file():
            for code, entry in sorted(tomllib.loads(file.read_text("utf-8")).items()):
                found[code] = Explanation(code, area, entry["title"], entry["text"])
    return found
