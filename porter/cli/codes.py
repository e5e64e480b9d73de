"""The explanations of the error codes, from `porter/error_codes/*.toml`."""

from __future__ import annotations

from porter.dataclass import dataclass

AREAS = {
    "common": "Any format",
    "caffe": "Caffe",
    "pytorch": "PyTorch",
    "onnx": "ONNX",
    "wts": ".wts",
    "hdf5": "HDF5",
    "safetensors": "safetensors",
    "npz": "NumPy",
    "check": "Comparing, measuring, quantising",
    "cli": "The command line",
    "map_language": "Maps: the language",
    "map_names": "Maps: names and captures",
    "map_fit": "Maps: what they cover",
    "map_layout": "Maps: axes",
    "map_operations": "Maps: operations",
    "map_inverse": "Maps: inverse and composition",
    "map_inference": "Maps: inference",
    "graph": "Porting networks",
    "tensorrt_lowering": "TensorRT: layers",
    "tensorrt_building": "TensorRT: building",
    "tensorrt_checking": "TensorRT: weights read back",
    "tensorrt_verification": "TensorRT: computing without a GPU",
    "tensorrt_source": "TensorRT: source",
}
"""Files of explanations, by the first digit of their codes, with a heading each; those of maps, graphs and TensorRT count from 0 again."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one code means: a title of one line, and a text of a few sentences."""

    code: str
    area: str
    title: str
    text: str


def explanations() -> dict[str, Explanation]:
    """All explanations by code, in the order of their areas. Reads the packaged files."""
    import os
    import tomllib

    found: dict[str, Explanation] = {}
    folder = os.path.join(os.path.dirname(os.path.dirname(__file__)), "error_codes")
    for area in AREAS:
        path = os.path.join(folder, f"{area}.toml")
        if os.path.isfile(path):
            with open(path, "rb") as file:
                for code, entry in sorted(tomllib.load(file).items()):
                    found[code] = Explanation(code, area, entry["title"], entry["text"])
    return found
