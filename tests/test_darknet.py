"""Darknet: `.cfg` and `.weights`, read; files are put together here by hand, from Darknet's own `load_weights_upto`."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hostile import assert_survives, byte_changes, growths, guarded, read_everything, truncations
from hypothesis import given
from hypothesis import strategies as st

import porter
from porter.errors import FormatError, PorterError, UsageError
from porter.formats.darknet.cfg import looks_like_cfg, parse
from porter.store import TensorStore

NET = "[net]\nheight=16\nwidth=12\nchannels=3\n"
Expected = list[tuple[str, tuple[int, ...]]]


def values(*shape: int, seed: int = 0) -> np.ndarray:
    """Random bits as float32: NaN payloads, infinities and negative zeros come along."""
    return np.random.default_rng(seed).integers(0, 256, int(np.prod(shape)) * 4, dtype=np.uint8).view("<f4").reshape(shape)


def header(major: int = 0, minor: int = 2, revision: int = 5, seen: int = 6400, wide: bool = True) -> bytes:
    return struct.pack("<iiiQ" if wide else "<iiiI", major, minor, revision, seen)


def save(folder: Path, text: str, data: bytes, head: bytes | None = None, name: str = "m") -> Path:
    (folder / f"{name}.cfg").write_text(text)
    (folder / f"{name}.weights").write_bytes((header() if head is None else head) + data)
    return folder / f"{name}.cfg"


def section(name: str, **settings: object) -> str:
    return f"\n[{name}]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())


def refused(path: Path, format: str | None = None) -> PorterError:
    with guarded(str(path)), pytest.raises(PorterError) as caught:
        porter.open(path, format)
    assert caught.value.hint
    assert caught.value.where.path
    return caught.value


def check(folder: Path, text: str, expected: Expected, format: str = "darknet", head: bytes | None = None) -> TensorStore:
    """Write values for `expected` one after the other and find them again; the file may be neither shorter nor longer."""
    arrays = [values(*shape, seed=i) for i, (_, shape) in enumerate(expected)]
    data = b"".join(a.tobytes() for a in arrays)
    path = save(folder, text, data, head)
    store = porter.open(path, format)
    assert [(t.name, t.shape) for t in store.values()] == expected
    for array, tensor in zip(arrays, store.values(), strict=True):
        assert tensor.tobytes() == array.tobytes()
        assert tensor.axes is None or len(tensor.axes) == len(tensor.shape)
        assert tensor.role in ("weight", "bias", "running_mean", "running_var")
    start = (header() if head is None else head) + data
    if data:
        path.with_suffix(".weights").write_bytes(start[:-4])
        assert refused(path, format).code in ("F001", "F083")
    path.with_suffix(".weights").write_bytes(start + b"\0\0\0\0")
    assert refused(path, format).code in ("F083", "F001")
    return store


def conv(prefix: str, outputs: int, inputs: int, size: int, bn: bool = False) -> Expected:
    """What `load_convolutional_weights` reads."""
    names = ["bn.bias", "bn.weight", "bn.running_mean", "bn.running_var"] if bn else ["bias"]
    return [*((f"{prefix}.{n}", (outputs,)) for n in names), (f"{prefix}.weight", (outputs, inputs, size, size))]


def connected(prefix: str, outputs: int, inputs: int, bn: bool = False) -> Expected:
    """What `load_connected_weights` reads."""
    found: Expected = [(f"{prefix}.bn.bias" if bn else f"{prefix}.bias", (outputs,)), (f"{prefix}.weight", (outputs, inputs))]
    return found + [(f"{prefix}.bn.{n}", (outputs,)) for n in ("weight", "running_mean", "running_var")] * bn


def test_both_files_open_the_same_net(tmp_path: Path) -> None:
    text = (
        "# a comment\n; another\n"
        + NET
        + "\n[convolutional]\nbatch_normalize = 1 # yes\n filters = 4\nsize=3\npad=1\nactivation=leaky\nfilters=999\n"
        + section("maxpool", size=2, stride=2)
        + section("connected", output=5)
    )
    expected = [*conv("layers.0", 4, 3, 3, bn=True), *connected("layers.2", 5, 4 * 8 * 6)]
    check(tmp_path, text, expected)
    arrays = [values(*shape, seed=i) for i, (_, shape) in enumerate(expected)]
    path = save(tmp_path, text, b"".join(a.tobytes() for a in arrays))
    for end in (".cfg", ".weights"):
        with porter.open(path.with_suffix(end)) as store:
            assert store.source is not None
            assert (store.source.format, store.source.dialect) == ("darknet", None)
            assert [(t.axes, t.role) for t in store.values()] == [
                ("C", "bias"),
                ("C", "weight"),
                ("C", "running_mean"),
                ("C", "running_var"),
                ("OIHW", "weight"),
                ("O", "bias"),
                ("OI", "weight"),
            ]
            assert store["layers.0.weight"].attributes == {"darknet.type": "convolutional"}
            assert store["layers.0.weight"].tobytes() == arrays[4].tobytes()
            assert store["layers.0.weight"].location is not None
            assert store.metadata == {"darknet.version": "0.2.5", "darknet.seen": 6400}
            assert store.attachments == {"darknet.cfg": text.encode()}
            assert not store.notices


LAYERS = {
    "grouped": (section("convolutional", filters=6, size=3, groups=3), conv("layers.0", 6, 1, 3)),
    "flipped": (section("convolutional", filters=6, size=3, flipped=1), [("layers.0.bias", (6,)), ("layers.0.weight", (3, 3, 3, 6))]),
    "batchnorm": (
        section("convolutional", filters=2) + section("connected", output=3, batch_normalize=1),
        [*conv("layers.0", 2, 3, 1), *connected("layers.1", 3, 2 * 16 * 12, bn=True)],
    ),
    "strides": (
        section("convolutional", filters=2, size=3, stride=2, pad=1) + section("connected", output=1),
        [*conv("layers.0", 2, 3, 3), *connected("layers.1", 1, 2 * 8 * 6)],
    ),
    "local": (section("local", filters=2, size=3, stride=2, pad=1), [("layers.0.bias", (2, 8, 6)), ("layers.0.weight", (48, 2, 3, 3, 3))]),
    "local unpadded": (section("local", filters=2, size=3), [("layers.0.bias", (2, 14, 10)), ("layers.0.weight", (140, 2, 3, 3, 3))]),
    "route": (
        section("convolutional", filters=2)
        + section("convolutional", filters=4)
        + section("route", layers="-1, 0")
        + section("convolutional", filters=1),
        [*conv("layers.0", 2, 3, 1), *conv("layers.1", 4, 2, 1), *conv("layers.3", 1, 6, 1)],
    ),
    "route of unlike sizes": (
        section("maxpool", size=2, stride=2) + section("avgpool") + section("route", layers="0,1") + section("connected", output=2),
        connected("layers.3", 2, 3 * 8 * 6 + 3),
    ),
    "shortcut": (
        section("convolutional", filters=3) + section("shortcut", **{"from": -1}) + section("convolutional", filters=1),
        [*conv("layers.0", 3, 3, 1), *conv("layers.2", 1, 3, 1)],
    ),
    "scale_channels": (
        section("convolutional", filters=5)
        + section("avgpool")
        + section("scale_channels", **{"from": 0})
        + section("connected", output=1),
        [*conv("layers.0", 5, 3, 1), *connected("layers.3", 1, 5 * 16 * 12)],
    ),
    "upsample": (section("upsample", stride=2) + section("connected", output=1), connected("layers.1", 1, 3 * 32 * 24)),
    "downsample": (section("upsample", stride=-2) + section("connected", output=1), connected("layers.1", 1, 3 * 8 * 6)),
    "reorg": (
        section("reorg", stride=2)
        + section("convolutional", filters=1)
        + section("reorg", stride=4, reverse=0)
        + section("connected", output=1),
        [*conv("layers.1", 1, 12, 1), *connected("layers.3", 1, 16 * 2 * 1)],
    ),
    "reorg back": (
        section("convolutional", filters=8) + section("reorg", stride=2, reverse=1) + section("connected", output=1),
        [*conv("layers.0", 8, 3, 1), *connected("layers.2", 1, 2 * 32 * 24)],
    ),
    "crop": (section("crop", crop_height=7, crop_width=5) + section("connected", output=1), connected("layers.1", 1, 3 * 35)),
    "passing": (
        "".join(section(n) for n in ("dropout", "softmax", "cost", "activation", "lrn", "yolo")) + section("conv", filters=1),
        conv("layers.6", 1, 3, 1),
    ),
    "deconvolutional": (
        section("deconvolutional", filters=2, size=2, stride=2) + section("connected", output=1),
        [("layers.0.bias", (2,)), ("layers.0.weight", (3, 2, 2, 2)), *connected("layers.1", 1, 2 * 32 * 24)],
    ),
}


@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("dialect", ["", ":original", ":alexeyab"])
def test_layer(case: str, dialect: str, tmp_path: Path) -> None:
    text, expected = LAYERS[case]
    check(tmp_path, NET + text, expected, "darknet" + dialect)


GATES = {
    "original": ("wi wf wo wg ui uf uo ug", "wz wr wh uz ur uh"),
    "alexeyab": ("wf wi wg wo uf ui ug uo", "uz ur uh wz wr wh"),
}


@pytest.mark.parametrize("dialect", GATES)
@pytest.mark.parametrize(("kind", "which"), [("lstm", 0), ("gru", 1)])
def test_gated_layers_have_two_orders(dialect: str, kind: str, which: int, tmp_path: Path) -> None:
    names = GATES[dialect][which].split()
    expected = [e for n in names for e in connected(f"layers.0.{n}", 4, 7 if n[0] == "u" else 4, bn=True)]
    text = "[net]\ninputs=7\n" + section(kind, output=4, batch_normalize=1)
    store = check(tmp_path, text, expected, "darknet:" + dialect)
    assert not store.notices
    save(tmp_path, text, b"".join(values(*shape).tobytes() for _, shape in expected))
    guessed = porter.open(tmp_path / "m.weights")
    assert guessed.source is not None
    assert guessed.source.dialect == "original"
    assert [n.kind for n in guessed.notices] == ["assumed"]
    assert "darknet:alexeyab" in guessed.notices[0].message


ONE_FAMILY = {
    "batchnorm of the original": (
        section("batchnorm"),
        [("layers.0.weight", (3,)), ("layers.0.running_mean", (3,)), ("layers.0.running_var", (3,))],
        "original",
    ),
    "batchnorm": (
        section("batchnorm"),
        [("layers.0.bias", (3,)), ("layers.0.weight", (3,)), ("layers.0.running_mean", (3,)), ("layers.0.running_var", (3,))],
        "alexeyab",
    ),
    "rnn of the original": (
        section("rnn", output=2, hidden=5),
        [*connected("layers.0.input_layer", 2, 576), *connected("layers.0.self_layer", 2, 2), *connected("layers.0.output_layer", 2, 2)],
        "original",
    ),
    "rnn": (
        section("rnn", output=2, hidden=5),
        [*connected("layers.0.input_layer", 5, 576), *connected("layers.0.self_layer", 5, 5), *connected("layers.0.output_layer", 2, 5)],
        "alexeyab",
    ),
    "crnn of the original": (
        section("crnn", output_filters=2, hidden_filters=4),
        [*conv("layers.0.input_layer", 4, 3, 3), *conv("layers.0.self_layer", 4, 4, 3), *conv("layers.0.output_layer", 2, 4, 3)],
        "original",
    ),
    "crnn": (
        section("crnn", output=2, hidden=4, size=1),
        [*conv("layers.0.input_layer", 4, 3, 1), *conv("layers.0.self_layer", 4, 4, 1), *conv("layers.0.output_layer", 2, 4, 1)],
        "alexeyab",
    ),
    "weighted shortcut": (
        section("convolutional", filters=3)
        + section("convolutional", filters=3)
        + section("shortcut", **{"from": "-1,0", "weights_type": "per_channel"}),
        [*conv("layers.0", 3, 3, 1), *conv("layers.1", 3, 3, 1), ("layers.2.weight", (3, 3))],
        "alexeyab",
    ),
    "feature shortcut": (
        section("maxpool") + section("shortcut", **{"from": -1, "weights_type": "per_feature"}),
        [("layers.1.weight", (2,))],
        "alexeyab",
    ),
    "xnor": (section("convolutional", filters=3, groups=3, xnor=1), conv("layers.0", 3, 3, 1), "alexeyab"),
    "grouped route": (
        section("convolutional", filters=6) + section("route", layers=-1, groups=2, group_id=1) + section("convolutional", filters=1),
        [*conv("layers.0", 6, 3, 1), *conv("layers.2", 1, 3, 1)],
        "alexeyab",
    ),
    "strides of two kinds": (
        section("convolutional", filters=1, stride_x=2, stride_y=4) + section("connected", output=1),
        [*conv("layers.0", 1, 3, 1), *connected("layers.1", 1, 4 * 6)],
        "alexeyab",
    ),
    "antialiasing": (
        section("convolutional", filters=1, size=4, stride=2, antialiasing=2) + section("connected", output=1),
        [*conv("layers.0", 1, 3, 4), *connected("layers.1", 1, 6 * 4)],
        "alexeyab",
    ),
    "depth of maxpool": (
        section("maxpool", maxpool_depth=1, out_channels=2) + section("convolutional", filters=2),
        conv("layers.1", 2, 2, 1),
        "alexeyab",
    ),
    "cbn": (section("convolutional", filters=2, cbn=1), conv("layers.0", 2, 3, 1, bn=True), "alexeyab"),
}


@pytest.mark.parametrize("case", ONE_FAMILY)
def test_which_family_shows_in_the_size(case: str, tmp_path: Path) -> None:
    text, expected, family = ONE_FAMILY[case]
    store = check(tmp_path, NET + text, expected)
    assert store.source is not None
    assert store.source.dialect == family
    assert not store.notices
    check(tmp_path, NET + text, expected, "darknet:" + family)
    other = "original" if family == "alexeyab" else "alexeyab"
    save(tmp_path, NET + text, b"".join(values(*shape).tobytes() for _, shape in expected))
    assert refused(tmp_path / "m.cfg", "darknet:" + other).code in ("F001", "F083", "F082")


@pytest.mark.parametrize("peephole", [0, 1])
@pytest.mark.parametrize("bottleneck", [0, 1])
def test_conv_lstm(peephole: int, bottleneck: int, tmp_path: Path) -> None:
    expected = [e for n in ("vf", "vi", "vo") for e in conv(f"layers.0.{n}", 4, 4, 3)] * peephole
    expected += (
        conv("layers.0.wf", 4, 8, 3) if bottleneck else [e for n in ("wf", "wi", "wg", "wo") for e in conv(f"layers.0.{n}", 4, 4, 3)]
    )
    expected += [e for n in ("uf", "ui", "ug", "uo") for e in conv(f"layers.0.{n}", 4, 3, 3)]
    check(tmp_path, NET + section("conv_lstm", output=4, pad=1, peephole=peephole, bottleneck=bottleneck), expected)


def test_implicit_and_history(tmp_path: Path) -> None:
    text = section("history", history_size=2) + section("conv", filters=1) + section("implicit", filters=8, atoms=2)
    check(tmp_path, NET + text, [*conv("layers.1", 1, 6, 1), ("layers.2.weight", (8, 2))])


@pytest.mark.parametrize(("version", "wide"), [((0, 1, 0), False), ((0, 2, 0), True), ((1, 0, 0), True), ((0, 0, 7), False)], ids=str)
def test_headers(version: tuple[int, int, int], wide: bool, tmp_path: Path) -> None:
    head = header(*version, seen=77, wide=wide)
    store = check(tmp_path, NET + section("connected", output=4), connected("layers.0", 4, 576), head=head)
    assert store.metadata == {"darknet.version": ".".join(map(str, version)), "darknet.seen": 77}


def test_old_files_have_their_matrices_transposed(tmp_path: Path) -> None:
    expected: Expected = [("layers.0.bias", (4,)), ("layers.0.weight", (576, 4))]
    store = check(tmp_path, NET + section("connected", output=4), expected, head=header(0, 1001, 0, wide=False))
    assert store["layers.0.weight"].axes == "IO"


def test_layers_that_share_or_leave_out_weights(tmp_path: Path) -> None:
    text = NET + section("convolutional", filters=3) + section("convolutional", filters=3, share_index=-1)
    store = check(tmp_path, text, conv("layers.0", 3, 3, 1))
    assert [n.message.startswith("layer 1 has no weights of its own") for n in store.notices] == [True]
    text = NET + section("conv", filters=3) + section("conv", filters=2, dontload=1)
    check(tmp_path, text, conv("layers.0", 3, 3, 1))
    check(tmp_path, text, [*conv("layers.0", 3, 3, 1), *conv("layers.1", 2, 3, 1)])


def test_first_layers_only(tmp_path: Path) -> None:
    """Files such as `yolov4.conv.137`."""
    text = NET + section("conv", filters=2) + section("maxpool") + section("conv", filters=4)
    error = refused(save(tmp_path, text, bytes(4 * (2 + 6))))
    assert error.code == "F001"
    assert "layer 2" in (error.hint or "")
    shorter = NET + section("conv", filters=2)
    assert len(porter.open(save(tmp_path, shorter, bytes(4 * (2 + 6))))) == 2


@pytest.mark.parametrize("name", ["m_final", "m_best", "m_last", "m_20000"])
def test_names_that_training_gives(name: str, tmp_path: Path) -> None:
    path = save(tmp_path, NET + section("conv", filters=2), bytes(32))
    path.with_suffix(".weights").rename(tmp_path / f"{name}.weights")
    store = porter.open(tmp_path / f"{name}.weights")
    assert len(store) == 2
    assert [n.kind for n in store.notices] == ["assumed"]
    if "0" not in name:
        assert len(porter.open(path)) == 2


def test_lines_that_are_no_settings(tmp_path: Path) -> None:
    store = porter.open(save(tmp_path, NET + "what is this\n" + section("conv", filters=2) + "key=\n", bytes(32)))
    assert [n.kind for n in store.notices] == ["skipped"]
    assert "line 5" in store.notices[0].message


def test_comments_in_any_encoding(tmp_path: Path) -> None:
    path = save(tmp_path, "", bytes(32))
    path.write_bytes("# 检测网络\r\n".encode("gbk") + (NET + section("conv", filters=2)).replace("\n", "\r\n").encode())
    assert len(porter.open(path)) == 2


CONV = section("conv", filters=2)
BROKEN = {
    "no net": ("[convolutional]\nfilters=3\n", "F080", 1),
    "no section": ("filters=3\n", "F080", 1),
    "empty": ("", "F080", 1),
    "open section": (NET + "[convolutional\nfilters=3\n", "F080", 5),
    "unknown": (NET + section("transformer", heads=3), "F081", 6),
    "no input": ("[net]\nbatch=1\n" + CONV, "F082", 1),
    "negative input": ("[net]\nheight=-1\n" + CONV, "F082", 2),
    "no number": (NET + section("conv", filters="many"), "F082", 7),
    "no filters": (NET + section("conv", filters=0), "F082", 7),
    "endless number": (NET + section("conv", filters="9" * 9000), "F082", 7),
    "beyond 32 bits": (NET + section("conv", filters=1 << 31), "F082", 7),
    "groups": (NET + section("conv", filters=4, groups=2), "F082", 8),
    "too large a window": (NET + section("conv", filters=1, size=99), "F082", 8),
    "stride": (NET + section("conv", filters=1, stride=0), "F082", 8),
    "later layer": (NET + CONV + section("route", layers="1"), "F082", 10),
    "too early a layer": (NET + CONV + section("route", layers="-2"), "F082", 10),
    "no layers": (NET + CONV + section("route"), "F082", 9),
    "no source": (NET + CONV + section("shortcut", **{"from": "x"}), "F082", 10),
    "huge": (NET + section("conv", filters=2147483647), "F082", 6),
    "huge kernel": (NET + section("conv", filters=1, size=1 << 30, padding=1 << 30), "F082", 6),
    "huge upsampling": (NET + section("upsample", stride=1 << 30) * 3, "F082", 6),
    "much upsampling": (NET + section("upsample", stride=2) * 15_000, "F082", None),
    "endless layers": (NET + section("yolo") * 30_000, "S003", None),
    "endless weights": ("[net]\ninputs=3\n" + section("lstm") * 19_000, "F001", None),
    "nothing left": (NET + section("reorg", stride=50), "F082", 7),
    "no channels left": (NET + section("reorg", stride=2, reverse=1), "F082", 7),
    "huge connection": (NET + section("connected", output=2147483647), "F001", None),
    "zero bytes": (NET + "\0", "F080", None),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_text(case: str, tmp_path: Path) -> None:
    text, code, line = BROKEN[case]
    error = refused(save(tmp_path, text, bytes(32)), "darknet")
    assert (error.code, error.where.line) == (code, line if line is not None else error.where.line)


def test_weights_type(tmp_path: Path) -> None:
    text = NET + CONV + section("shortcut", **{"from": -1, "weights_type": "per_pixel"})
    assert refused(save(tmp_path, text, bytes(32)), "darknet:alexeyab").code == "F082"


@pytest.mark.parametrize("nbytes", [0, 3, 12, 19])
def test_short_headers(nbytes: int, tmp_path: Path) -> None:
    path = save(tmp_path, NET + CONV, b"", header()[:nbytes])
    error = refused(path)
    assert error.code == "F001"
    assert error.where.path == str(path.with_suffix(".weights"))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    path = save(tmp_path, NET + CONV, bytes(32))
    path.with_suffix(".weights").rename(tmp_path / "other.weights")
    assert refused(path).code == "I007"
    error = refused(tmp_path / "other.weights")
    assert error.code == "I007"
    assert "other.cfg" in error.message
    (tmp_path / "foreign.weights").write_bytes(b"\x01" * 64)
    assert refused(tmp_path / "foreign.weights").code == "F009"
    assert refused(tmp_path / "foreign.weights", "darknet").code == "I007"


def test_a_text_without_end_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path, NET, b"")
    os.truncate(path, 1 << 40)
    assert refused(path).code == "S003"


def test_nothing_is_written(tmp_path: Path) -> None:
    store = TensorStore([porter.Tensor.from_array("w", values(3))])
    for name in ("m.weights", "m.cfg"):
        with pytest.raises(UsageError) as caught:
            porter.save(store, tmp_path / name)
        assert caught.value.code == "U004"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", [".cfg", ".weights"])
def test_damage(end: str, tmp_path: Path) -> None:
    text = NET + section("conv", filters=2, batch_normalize=1) + section("batchnorm") + section("shortcut", **{"from": -2})
    path = save(tmp_path, text + section("rnn", output=1), bytes(4 * (8 + 6 + 6 + 1 + 384 + 2 + 2)))
    read_everything(path)
    damaged = path.with_suffix(end)
    data = damaged.read_bytes()
    assert assert_survives(damaged, truncations(data)), "no truncation was noticed"
    assert_survives(damaged, byte_changes(data))
    assert_survives(damaged, growths(data))


@given(st.binary(max_size=200), st.text(max_size=100))
def test_any_text(tail: bytes, more: str) -> None:
    for data in (b"[net]\n" + tail, b"[net]\nwidth=3\n[conv]\n" + more.encode("utf-8", "replace"), tail):
        known = looks_like_cfg(data)
        try:
            sections, _ = parse(data, "m.cfg")
        except FormatError as error:
            assert error.code == "F080"
        else:
            assert sections[0].name in ("net", "network")
            assert known or b"\xef\xbb\xbf" in data or data[:1].isspace() or b"\r" in data or b"\x0b" in data or b"\x0c" in data


# Real nets, against the same nets in other formats.


def test_yoloface_against_caffe(shared: Path) -> None:
    """Every array of Darknet's is a blob of Caffe's, in the order of the layers."""
    folder = shared / "real/yoloface"
    darknet = porter.open(folder / "yoloface-500k_v2_yoloface-500k-v2.cfg")
    caffe = porter.open(folder / "yoloface-500k_v2_yoloface-500k-v2.caffemodel")
    factors = [t for t in caffe.values() if t.role == "scale_factor"]
    assert len(factors) == 52
    blobs = [t for t in caffe.values() if t.role != "scale_factor"]
    assert len(darknet) == len(blobs) == 278
    assert sorted(t.digest() for t in darknet.values()) == sorted(t.digest() for t in blobs)
    kernels = {axes: [t.digest() for t in s if t.axes == axes and t.role == "weight"] for axes, s in {"OIHW": darknet.values()}.items()}
    assert kernels["OIHW"] == [t.digest() for t in blobs if t.axes == "OIHW"]
    assert [t.digest() for t in darknet.values() if t.role == "running_var"] == [t.digest() for t in blobs if t.role == "variance"]
    assert [t.digest() for t in darknet.values() if t.role == "running_mean"] == [t.digest() for t in blobs if t.role == "mean"]


def test_yolo_fastest_against_ncnn(shared: Path) -> None:
    """ncnn has the batch normalisation folded in, rounded to float16."""
    darknet = porter.open(shared / "real/yolofastest/darknet/yolo-fastest-1.1.weights")
    ncnn = porter.open(shared / "real/yolofastest/ncnn/yolo-fastest-1.1.param")
    kernels = [t for t in ncnn.values() if t.role == "weight"]
    mine = [t for t in darknet.values() if t.axes == "OIHW"]
    assert len(kernels) == len(mine) == 84
    for theirs, tensor in zip(kernels, mine, strict=True):
        layer = tensor.name.removesuffix(".weight")
        expected = tensor.numpy().astype("<f8")
        if f"{layer}.bn.weight" in darknet:
            deviation = np.sqrt(darknet[f"{layer}.bn.running_var"].numpy().astype("<f8") + 1e-5)
            expected = expected * (darknet[f"{layer}.bn.weight"].numpy() / deviation).reshape(-1, 1, 1, 1)
        assert theirs.shape == tensor.shape
        np.testing.assert_allclose(theirs.numpy().astype("<f8"), expected, rtol=2e-3, atol=2e-7)
