"""`.pth` to `.safetensors` as most projects do it. Usage: torch_to_safetensors.py SRC DST."""

import sys

import torch
from safetensors.torch import save_file

save_file(torch.load(sys.argv[1], map_location="cpu"), sys.argv[2])
