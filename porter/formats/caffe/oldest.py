"""Nets of the oldest generation in binary files, brought up to date through the tree of the text."""

from __future__ import annotations

from porter.errors import FormatError
from porter.formats.caffe.net import net_from_tree
from porter.formats.caffe.net_bytes import serialise
from porter.formats.caffe.prototxt import parse as parse_text
from porter.io.protobuf_messages import message_classes, parse


def upgraded_net(data: bytes) -> tuple[bytes, list[str]]:
    """A serialised net of any generation as one of V2, and what that did not keep.

    Raises:
        FormatError: `data` does not parse, or has a string that is not UTF-8.
    """
    from google.protobuf import text_format

    message = parse(message_classes("caffe.binpb")["caffe.NetParameter"], data, "the net")
    try:
        text = text_format.MessageToString(message)
    except UnicodeDecodeError as error:
        raise FormatError("F012", f"broken protobuf: a string of the net is not UTF-8: {error}") from error
    notices: list[str] = []
    net = net_from_tree(parse_text(text, notices=notices), notices=notices)
    missing: list[str] = []
    upgraded = serialise(net, missing)
    # The lines are those of a text that nobody has seen.
    return upgraded, [notice.split(": ", 1)[1] if notice.startswith("line ") else notice for notice in (*net.notices, *missing)]
