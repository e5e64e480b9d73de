"""`.pth` to `.wts` as most projects do it: torch, and one `struct.pack` a value. Usage: usual_wts_script.py SRC DST."""

import struct
import sys

import torch

weights = torch.load(sys.argv[1], map_location="cpu")
with open(sys.argv[2], "w") as out:
    out.write(f"{len(weights)}\n")
    for key, tensor in weights.items():
        flat = tensor.reshape(-1).numpy()
        out.write(f"{key} {len(flat)}")
        for value in flat:
            out.write(" ")
            out.write(struct.pack(">f", float(value)).hex())
        out.write("\n")
