"""Files that hold tensors at the paths of their names: porter's own layout, and any HDF5 file of no known make.

porter's layout, version 1: the root group has the attribute `porter_layout` = 1. Every tensor is a dataset at the path that
`names.paths` gives its name; ties are hard links. Data is contiguous, little-endian, starts at a multiple of 64 bytes
from 2 KiB on, and lies in the order of the store. Types that HDF5 lacks are opaque bytes whose attribute `porter_dtype` names
them; of those narrower than a byte the packed bytes are stored, in one dimension, and `porter_shape` has the shape.
bfloat16 is an HDF5 float of 8 exponent and 7 mantissa bits, which other readers convert; complex numbers are pairs `r`,
`i` and booleans an enumeration, as h5py writes them. Axes, roles, attributes, metadata and attachments are in the
attribute `porter` (see `description`).
"""

from __future__ import annotations

from porter.errors import FormatError
from porter.formats.hdf5 import description, names
from porter.formats.hdf5.reading import Reader
from porter.formats.hdf5.recognition import MARK

VERSION = 1


def read_porter(reader: Reader) -> description.Description:
    """Read a file of porter's own layout."""
    version = reader.file.attributes(reader.root)[MARK].value()
    if version != VERSION:
        raise FormatError(
            "F007", f"the file has version {version} of porter's layout, this porter knows {VERSION}", hint="upgrade porter to read it"
        )
    described = description.load(reader.file)
    for entry in reader.walk(reader.root):
        reader.add(entry, described.name(entry.text, names.name_of(entry.path)))
    return described


def read_plain(reader: Reader) -> description.Description:
    """Read every dataset of a file of unknown make; a tensor's name is its path. Attributes of the root are metadata."""
    described = description.load(reader.file)
    for entry in reader.walk(reader.root):
        reader.add(entry, described.name(entry.text, entry.text))
    for name, attribute in reader.file.attributes(reader.root).items():
        if name == description.ATTRIBUTE:
            continue
        value = attribute.value()
        if value is None:
            reader.store.note("skipped", f"the attribute '{name}' of the root group is neither text nor numbers")
        else:
            reader.store.metadata[name] = value
    return described
