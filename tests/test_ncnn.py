"""ncnn: `.param` and `.bin`, read; files are put together here by hand, from ncnn's own `load_model`."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile import assert_survives, byte_changes, growths, guarded, read_everything, truncations
from hypothesis import given
from hypothesis import strategies as st

import porter
from porter.errors import FormatError, PorterError, UsageError
from porter.formats.ncnn.param import looks_like_param, parse
from porter.store import TensorStore

F16, INT8, RAW, TABLE = 0x01306B47, 0x000D4B38, 0x0002C056, 1


def values(*shape: int, seed: int = 0) -> np.ndarray:
    """Random bits as float32: NaN payloads, infinities and negative zeros come along."""
    return np.random.default_rng(seed).integers(0, 256, int(np.prod(shape)) * 4, dtype=np.uint8).view("<f4").reshape(shape)


def tagged(array: np.ndarray, flag: int = 0) -> bytes:
    data = array.tobytes()
    return struct.pack("<I", flag) + data + b"\0" * (-len(data) % 4)


def net(*layers: str, count: int | None = None) -> str:
    return f"7767517\n{len(layers) if count is None else count} {len(layers) + 1}\n" + "".join(layer + "\n" for layer in layers)


def save(folder: Path, text: str, data: bytes, name: str = "m") -> Path:
    (folder / f"{name}.param").write_text(text)
    (folder / f"{name}.bin").write_bytes(data)
    return folder / f"{name}.param"


def one(kind: str, parameters: str) -> str:
    return net("Input data 0 1 data 0=8 1=8 2=4", f"{kind:<16} x 1 1 data out {parameters}")


def described(store: TensorStore) -> list[tuple[str, tuple[int, ...], str | None, str]]:
    return [(t.name, t.shape, t.axes, t.dtype.name) for t in store.values()]


def refused(path: Path, format: str | None = None) -> PorterError:
    with guarded(str(path)), pytest.raises(PorterError) as caught:
        porter.open(path, format)
    assert caught.value.hint
    assert caught.value.where.path
    return caught.value


def test_both_files_open_the_same_net(tmp_path: Path) -> None:
    kernel, bias, slope = values(6, 4, 3, 2), values(6, seed=1), values(6, seed=2)
    text = net(
        "Input            data             0 1 data 0=3 1=12 2=12",
        "Convolution      conv1            1 1 data conv1 0=6 1=2 11=3 2=1 3=1 4=0 5=1 6=144",
        "PReLU            relu             1 1 conv1 relu 0=6",
        "Softmax          prob             1 1 relu prob 0=0",
    )
    path = save(tmp_path, text, tagged(kernel) + bias.tobytes() + slope.tobytes())
    for end in (".param", ".bin"):
        with porter.open(path.with_suffix(end)) as store:
            assert store.source is not None
            assert (store.source.format, store.source.dialect) == ("ncnn", "model")
            assert described(store) == [
                ("conv1.weight", (6, 4, 3, 2), "OIHW", "float32"),
                ("conv1.bias", (6,), "O", "float32"),
                ("relu.slope", (6,), "C", "float32"),
            ]
            for name, array in (("conv1.weight", kernel), ("conv1.bias", bias), ("relu.slope", slope)):
                assert store[name].tobytes() == array.tobytes()
                assert store[name].location is not None
            assert store["conv1.weight"].attributes == {"ncnn.type": "Convolution"}
            assert store["relu.slope"].role == "slope"
            assert store.attachments == {"ncnn.param": text.encode()}
            assert not store.notices


@pytest.mark.parametrize(("flag", "dtype"), [(0, "<f4"), (RAW, "<f4"), (F16, "<f2"), (INT8, "i1")])
@pytest.mark.parametrize("outputs", [1, 2, 3, 5])
def test_flags_and_padding(flag: int, dtype: str, outputs: int, tmp_path: Path) -> None:
    weight = np.random.default_rng(outputs).integers(0, 256, outputs * 3 * np.dtype(dtype).itemsize, dtype=np.uint8).view(dtype)
    bias = values(outputs)
    path = save(tmp_path, one("InnerProduct", f"0={outputs} 1=1 2={outputs * 3}"), tagged(weight, flag) + bias.tobytes())
    store = porter.open(path)
    assert store["x.weight"].dtype.numpy() == np.dtype(dtype)
    assert store["x.weight"].shape == (outputs, 3)
    assert store["x.weight"].tobytes() == weight.tobytes()
    assert store["x.bias"].tobytes() == bias.tobytes()


@pytest.mark.parametrize("count", [4, 6, 1 << 20])
def test_a_table_of_256_values(count: int, tmp_path: Path) -> None:
    table, codes = values(256), np.random.default_rng(1).integers(0, 256, count, dtype=np.uint8)
    data = struct.pack("<I", TABLE) + table.tobytes() + codes.tobytes() + b"\0" * (-count % 4) + values(2).tobytes()
    store = porter.open(save(tmp_path, one("InnerProduct", f"0=2 1=1 2={count}"), data))
    assert store["x.weight"].attributes == {"ncnn.type": "InnerProduct", "ncnn.storage": "table"}
    expected = table.view("<u4")[codes].tobytes()
    assert store["x.weight"].tobytes() == expected
    assert b"".join(bytes(c) for c in store["x.weight"].chunks(1000)) == expected


# Each case: type, parameters, and what the file holds: (role, shape, tagged), from `load_model` of that layer.
CASES = {
    "Convolution": ("0=4 1=3 11=2 5=1 6=48", [("weight", (4, 2, 2, 3), 1), ("bias", (4,), 0)]),
    "Convolution ": ("0=4 1=3 6=72", [("weight", (4, 2, 3, 3), 1)]),
    "Convolution  ": (
        "0=4 1=1 5=1 6=8 8=101",
        [("weight", (4, 2, 1, 1), 1), ("bias", (4,), 0), ("weight_scales", (4,), 0), ("input_scale", (1,), 0), ("output_scale", (1,), 0)],
    ),
    "Convolution   ": ("0=4 1=1 6=8 19=1", []),
    "ConvolutionDepthWise": ("0=4 1=3 6=36 7=4 8=1", [("weight", (4, 1, 3, 3), 1), ("weight_scales", (4,), 0), ("input_scale", (1,), 0)]),
    "ConvolutionDepthWise ": (
        "0=4 1=3 6=36 7=4 8=102",
        [("weight", (4, 1, 3, 3), 1), ("weight_scales", (1,), 0), ("input_scale", (1,), 0), ("output_scale", (1,), 0)],
    ),
    "Convolution1D": ("0=4 1=3 5=1 6=24", [("weight", (4, 2, 3), 1), ("bias", (4,), 0)]),
    "ConvolutionDepthWise1D": ("0=4 1=3 6=12 7=4", [("weight", (4, 1, 3), 1)]),
    "Convolution3D": ("0=4 1=3 11=2 21=1 6=48", [("weight", (4, 2, 1, 2, 3), 1)]),
    "ConvolutionDepthWise3D": ("0=4 1=1 6=4 7=4", [("weight", (4, 1, 1, 1, 1), 1)]),
    "Deconvolution": ("0=4 1=3 11=2 5=1 6=48", [("weight", (4, 2, 2, 3), 1), ("bias", (4,), 0)]),
    "Deconvolution ": ("0=4 1=3 6=72 28=1", []),
    "DeconvolutionDepthWise": ("0=4 1=2 6=16 7=4", [("weight", (4, 1, 2, 2), 1)]),
    "Deconvolution1D": ("0=4 1=3 6=24", [("weight", (4, 2, 3), 1)]),
    "DeformableConv2D": ("0=4 1=3 6=72 5=1", [("weight", (4, 2, 3, 3), 1), ("bias", (4,), 0)]),
    "InnerProduct": ("0=4 1=1 2=12 8=1", [("weight", (4, 3), 1), ("bias", (4,), 0), ("weight_scales", (4,), 0), ("input_scale", (1,), 0)]),
    "Embed": ("0=4 1=5 2=1 3=20", [("weight", (5, 4), 1), ("bias", (4,), 0)]),
    "Embed ": ("0=4 1=5 3=20 18=1", [("weight", (5, 4), 1), ("weight_scale", (1,), 0)]),
    "BatchNorm": ("0=4", [("weight", (4,), 0), ("mean", (4,), 0), ("variance", (4,), 0), ("bias", (4,), 0)]),
    "InstanceNorm": ("0=4", [("weight", (4,), 0), ("bias", (4,), 0)]),
    "InstanceNorm ": ("0=4 2=0", []),
    "GroupNorm": ("0=2 1=4", [("weight", (4,), 0), ("bias", (4,), 0)]),
    "LayerNorm": ("0=4", [("weight", (4,), 0), ("bias", (4,), 0)]),
    "LayerNorm ": ("0=4 2=0", []),
    "RMSNorm": ("0=4", [("weight", (4,), 0)]),
    "Scale": ("0=4 1=1", [("weight", (4,), 0), ("bias", (4,), 0)]),
    "Scale ": ("0=-233", []),
    "Bias": ("0=4", [("bias", (4,), 0)]),
    "PReLU": ("0=1", [("slope", (1,), 0)]),
    "Normalize": ("1=0 3=4", [("weight", (4,), 0)]),
    "Padding": ("0=1 6=3", [("values", (3,), 0)]),
    "Padding ": ("0=1 1=1", []),
    "Quantize": ("", [("scale", (1,), 0)]),
    "Dequantize": ("0=3 1=2", [("scale", (3,), 0), ("bias", (2,), 0)]),
    "Requantize": ("0=3 1=2 2=4", [("input_scale", (3,), 0), ("output_scale", (2,), 0), ("bias", (4,), 0)]),
    "MemoryData": ("0=2 1=3 2=4", [("data", (4, 3, 2), 0)]),
    "MemoryData ": ("0=2 1=3 11=5 2=4 21=0", [("data", (4, 5, 3, 2), 1)]),
    "MemoryData  ": ("0=2", [("data", (2,), 0)]),
    "MemoryData   ": ("", []),
    "RNN": ("0=3 1=15", [("weight_xc", (1, 3, 5), 1), ("bias_c", (1, 1, 3), 1), ("weight_hc", (1, 3, 3), 1)]),
    "GRU": ("0=3 1=90 2=2", [("weight_xc", (2, 9, 5), 1), ("bias_c", (2, 4, 3), 1), ("weight_hc", (2, 9, 3), 1)]),
    "LSTM": (
        "0=3 1=60 8=1",
        [
            ("weight_xc", (1, 12, 5), 1),
            ("bias_c", (1, 4, 3), 1),
            ("weight_hc", (1, 12, 3), 1),
            ("weight_xc_scales", (1, 12), 0),
            ("weight_hc_scales", (1, 12), 0),
        ],
    ),
    "LSTM ": (
        "0=2 1=60 3=3",
        [("weight_xc", (1, 12, 5), 1), ("bias_c", (1, 4, 3), 1), ("weight_hc", (1, 12, 2), 1), ("weight_hr", (1, 2, 3), 1)],
    ),
    "MultiHeadAttention": (
        "0=4 1=2 2=12 3=5 4=6 18=2",
        [
            ("q_weight", (4, 3), 1),
            ("q_bias", (4,), 0),
            ("k_weight", (4, 5), 1),
            ("k_bias", (4,), 0),
            ("v_weight", (4, 6), 1),
            ("v_bias", (4,), 0),
            ("out_weight", (3, 4), 1),
            ("out_bias", (3,), 0),
            ("q_weight_scales", (4,), 0),
            ("k_weight_scales", (4,), 0),
            ("v_weight_scales", (4,), 0),
            ("out_weight_scale", (1,), 0),
        ],
    ),
    "Gemm": ("4=1 5=1 6=1 7=2 8=3 9=4 10=3", [("A", (2, 4), 1), ("B", (4, 3), 1), ("C", (2, 3), 1)]),
    "Gemm ": (
        "2=1 3=1 4=1 5=1 6=1 7=2 8=3 9=4 10=4 18=1",
        [("A", (4, 2), 1), ("B", (3, 4), 1), ("C", (1, 3), 1), ("A_scales", (2,), 0), ("B_scale", (1,), 0)],
    ),
    "Gemm  ": ("6=1 10=-1", []),
    "Gemm   ": ("", []),
    "Crop": ("0=1", []),
}


@pytest.mark.parametrize("case", CASES)
def test_layer(case: str, tmp_path: Path) -> None:
    parameters, expected = CASES[case]
    arrays = [values(*shape, seed=i) for i, (_, shape, _) in enumerate(expected)]
    data = b"".join(tagged(a) if flag else a.tobytes() for a, (_, _, flag) in zip(arrays, expected, strict=True))
    path = save(tmp_path, one(case.strip(), parameters), data)
    store = porter.open(path, "ncnn")
    assert [(t.name, t.shape) for t in store.values()] == [(f"x.{role}", shape) for role, shape, _ in expected]
    for array, tensor in zip(arrays, store.values(), strict=True):
        assert tensor.tobytes() == array.tobytes()
        assert tensor.role == tensor.name.partition(".")[2]
    if data:
        path.with_suffix(".bin").write_bytes(data[:-1])
        assert refused(path).code == "F001"
    path.with_suffix(".bin").write_bytes(data + b"\0\0\0\0")
    assert refused(path).code == "F083"


def test_arrays_strings_and_blanks_in_the_text(tmp_path: Path) -> None:
    text = (
        "7767517\r\n\r\n3 3\r\n"
        "Input\tdata 0 1 data -23330=4,3,8,8,1 0=8\r\n"
        'Einsum e 1 1 data b 0="ij, jk" 1=abc 2=1.5e-1 3=1,2,3\r\n'
        "Bias größe 1 1 b c 0=2 -23310=1,1.000000e-01 \r\n"
    )
    store = porter.open(save(tmp_path, text, values(2).tobytes()))
    assert list(store) == ["größe.bias"]
    layers = parse(text.encode(), "m.param")
    assert layers[1].parameters[0][0] == '"ij, jk"'
    assert layers[2].integer(0) == 2


def test_custom_layers_that_have_no_weights(tmp_path: Path) -> None:
    text = net("Input in 0 1 a", "YoloV5Focus f 1 1 a b", "Bias x 1 1 b c 0=2")
    store = porter.open(save(tmp_path, text, values(2).tobytes()))
    assert list(store) == ["x.bias"]
    assert [(n.kind, "YoloV5Focus" in n.message) for n in store.notices] == [("assumed", True)]


@pytest.mark.parametrize("extra", [4, 8, 4096])
def test_custom_layers_that_have_weights(extra: int, tmp_path: Path) -> None:
    text = net("Input in 0 1 a", "Mine f 1 1 a b 0=3", "InnerProduct x 1 1 b c 0=2 2=4")
    error = refused(save(tmp_path, text, values(extra // 4).tobytes() + tagged(values(4))))
    assert error.code == "F081"
    assert (error.where.line, error.where.column) == (4, 1)
    assert "'f'" in error.message
    assert "Mine" in error.message
    assert "^^^^" in str(error)


BROKEN = {
    "no magic": ("7767518\n1 1\nInput a 0 1 a\n", "F080", 1),
    "empty": ("", "F008", None),
    "counts": ("7767517\n1\nInput a 0 1 a\n", "F080", 2),
    "more layers": (net("Input a 0 1 a", count=2), "F080", 2),
    "fewer layers": (net("Input a 0 1 a", "Bias b 1 1 a b 0=1", count=1), "F080", 2),
    "huge count": (net("Input a 0 1 a", count=999999999), "F080", 2),
    "endless count": (f"7767517\n{'9' * 5000} 1\n", "F080", 2),
    "other digits": ("7767517\n¹ ¹\n", "F080", 2),
    "no blobs": (net("Input a 0 1"), "F080", 3),
    "many blobs": (net("Input a 0 999999 a"), "F080", 3),
    "no counts": (net("Input a b c"), "F080", 3),
    "stray word": (net("Bias a 1 1 a b 0=1 stray"), "F080", 3),
    "a float": (net("Bias a 1 1 a b 0=1.5"), "F082", 3),
    "a word": (net("Bias a 1 1 a b 0=two"), "F082", 3),
    "an array": (net("Bias a 1 1 a b 0=1,2"), "F082", 3),
    "beyond 32 bits": (net("Bias a 1 1 a b 0=2147483648"), "F082", 3),
    "endless number": (net(f"Bias a 1 1 a b 0={'9' * 9000}"), "F082", 3),
    "nothing": (net("Bias a 1 1 a b 0=0"), "F082", 3),
    "negative": (net("PReLU a 1 1 a b 0=-4"), "F082", 3),
    "no kernel": (net("Convolution a 1 1 a b 0=4 6=4"), "F082", 3),
    "no quotient": (net("Convolution a 1 1 a b 0=4 1=3 6=35"), "F082", 3),
    "inner product": (net("InnerProduct a 1 1 a b 0=4 2=6"), "F082", 3),
    "lstm": (net("LSTM a 1 1 a b 0=4 1=100"), "F082", 3),
    "load type": (net("MemoryData a 0 1 a 0=4 21=7"), "F082", 3),
    "blocks": (net("Gemm a 1 1 a b 4=0 5=1 8=3 9=4 3=1 18=400"), "F082", 3),
    "blocks of attention": (net("MultiHeadAttention a 1 1 a b 0=4 2=16 18=4"), "F082", 3),
    "broadcast": (net("Gemm a 1 1 a b 6=1 10=7"), "F082", 3),
    "huge": (net("Convolution a 1 1 a b 0=2147483647 1=1 6=2147483647"), "F001", None),
    "huge kernel": (net("Convolution a 1 1 a b 0=1 1=2147483647 11=2147483647 6=2147483647"), "F082", 3),
    "huge attention": (net("MultiHeadAttention a 1 1 a b 0=1 2=1 3=2147483647 4=2147483647"), "F001", None),
    "huge gemm": (net("Gemm a 1 1 a b 5=1 8=2147483647 9=2147483647"), "F001", None),
    "twice": (net("Bias a 1 1 a b 0=1", "Bias a 1 1 b c 0=1"), "F004", 4),
    "zero bytes": ("7767517\n1 1\nInput a\0 0 1 a\n", "F080", None),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_text(case: str, tmp_path: Path) -> None:
    text, code, line = BROKEN[case]
    path = save(tmp_path, text, bytes(256))
    error = refused(path, "ncnn" if case != "empty" else None)
    assert (error.code, error.where.line) == (code, line)


def test_a_flag_that_ncnn_does_not_have(tmp_path: Path) -> None:
    text = net("Bias b 1 1 a b 0=1", "InnerProduct x 1 1 b c 0=2 2=4")
    error = refused(save(tmp_path, text, values(1).tobytes() + tagged(values(4), 0x3F800000)))
    assert (error.code, error.where.offset, error.where.tensor) == ("F084", 4, "x.weight")
    assert error.where.path == str(tmp_path / "m.bin")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    path = save(tmp_path, one("Bias", "0=1"), values(1).tobytes())
    path.with_suffix(".bin").rename(tmp_path / "other.bin")
    assert refused(path).code == "I007"
    assert refused(tmp_path / "other.bin", "ncnn").code == "I007"
    assert refused(tmp_path / "other.bin").code == "F009"
    path.unlink()
    (tmp_path / "other.param").write_text("lr = 0.1\n")
    assert refused(tmp_path / "other.bin").code == "F009"
    assert refused(tmp_path / "other.param", "ncnn").code in ("F080", "I007")
    lone = tmp_path / "lone.bin"
    lone.write_text(net("Input a 0 1 a"))  # the text under the values' name
    assert refused(lone).code == "I007"


def test_binary_param_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.param.bin"
    path.write_bytes(struct.pack("<iii", 7767517, 1, 1) + bytes(64))
    for format in (None, "ncnn"):
        error = refused(path, format)
        assert error.code == "F085"
        assert ".param" in (error.hint or "")


def test_a_text_without_end_is_not_read(tmp_path: Path) -> None:
    path = save(tmp_path, net("Input a 0 1 a"), b"")
    os.truncate(path, 1 << 40)
    assert refused(path).code == "S003"


def test_pytorch_files_called_bin_stay_what_they_are(tmp_path: Path) -> None:
    store = TensorStore([porter.Tensor.from_array("w", values(3))])
    save(tmp_path, net("Input a 0 1 a"), b"")
    porter.save(store, tmp_path / "m.bin", "pytorch", overwrite=True)
    back = porter.open(tmp_path / "m.bin")
    assert back.source is not None
    assert back.source.format == "pytorch"


def test_nothing_is_written(tmp_path: Path) -> None:
    store = TensorStore([porter.Tensor.from_array("w", values(3))])
    for format, name in (("ncnn", "m.bin"), (None, "m.param")):
        with pytest.raises(UsageError) as caught:
            porter.save(store, tmp_path / name, format)
        assert caught.value.code == "U004"
    assert not list(tmp_path.iterdir())


def small(folder: Path) -> Path:
    text = net(
        "Input data 0 1 data 0=8 1=8 2=2",
        "Convolution c 1 1 data c 0=2 1=1 5=1 6=4",
        "BatchNorm bn 1 1 c n 0=2",
        "InnerProduct fc 1 1 n fc 0=3 2=6 -23310=1,1.000000e-01",
        "Custom me 1 1 fc me 0=1",
    )
    data = tagged(values(4)) + values(2).tobytes() + values(8).tobytes()
    return save(folder, text, data + tagged(values(3).view("<f2"), F16))


@pytest.mark.parametrize("end", [".param", ".bin"])
def test_damage(end: str, tmp_path: Path) -> None:
    path = small(tmp_path)
    read_everything(path)
    damaged = path.with_suffix(end)
    data = damaged.read_bytes()
    assert assert_survives(damaged, truncations(data)), "no truncation was noticed"
    assert assert_survives(damaged, byte_changes(data)), "no change was noticed"
    assert assert_survives(damaged, growths(data))


def test_no_truncation_of_the_values_goes_unnoticed(tmp_path: Path) -> None:
    path = save(tmp_path, one("BatchNorm", "0=5"), values(20).tobytes()).with_suffix(".bin")
    data = path.read_bytes()
    for n in range(len(data)):
        path.write_bytes(data[:n])
        error = refused(path, "ncnn")
        assert error.code == "F001"
        assert error.where.path == str(path)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_any_text(tail: bytes, head: bytes) -> None:
    for data in (b"7767517\n" + tail, b"7767517\n1 1\n" + tail, b"7767517\n1 1\nBias b 1 1 a b " + tail, head + tail):
        looks_like_param(data)
        try:
            layers = parse(data, "m.param")
        except FormatError as error:
            assert str(error).startswith(f"error[{error.code}]")
        else:
            assert data.count(b"\n") >= 2
            assert all(layer.type and layer.name for layer in layers)


# Real nets, against the same nets in other formats.


@pytest.mark.parametrize("stage", ["det1", "det2", "det3"])
def test_mtcnn_against_caffe(stage: str, shared: Path) -> None:
    """Both were converted from one set of values; the kernels of ncnn's have height and width the other way round."""
    ncnn = porter.open(shared / f"real/mtcnn/ncnn/{stage}.param")
    caffe = porter.open(shared / f"real/mtcnn/caffe/{stage}.caffemodel")
    by_name = {t.name.lower(): t for t in caffe.values()}
    for tensor in ncnn.values():
        other = by_name[tensor.name.lower()]
        assert (tensor.shape, tensor.axes, tensor.role) == (other.shape, other.axes, other.role) or tensor.name.startswith("conv")
        array, expected = tensor.numpy(), other.numpy()
        if len(expected.shape) == 4:
            expected = expected.swapaxes(2, 3)
        if tensor.axes == "OI":  # a matrix behind a flattened image of 3 by 3
            assert np.sort(array, axis=None).tobytes() == np.sort(expected, axis=None).tobytes()
        else:
            assert array.tobytes() == expected.tobytes(), tensor.name


def test_minifasnet_against_pytorch(shared: Path) -> None:
    ncnn = porter.open(shared / "real/minivision/ncnn/model_1.bin")
    torch = porter.open(shared / "real/minivision/2.7_80x80_MiniFASNetV2.pth")
    there = {t.digest() for t in torch.values()}
    of = {axes: [t for t in ncnn.values() if t.axes == axes and t.role == "weight"] for axes in ("OIHW", "OI")}
    assert [len(v) for v in of.values()] == [49, 2]
    assert all(t.digest() in there for v in of.values() for t in v)
    assert all(t.digest() in there for t in ncnn.values() if t.role in ("slope", "mean") or t.attributes["ncnn.type"] == "Scale")
    variances = [t.numpy() for t in torch.values() if t.name.endswith(".running_var")]
    added = {(v.astype("<f8") + 1e-5).astype("<f4").tobytes() for v in variances}
    mine = [t for t in ncnn.values() if t.role == "variance"]
    assert len(mine) == 50
    assert all(t.tobytes() in added for t in mine), "the converter added epsilon to the variances, rounding once"


def test_ultraface_against_caffe(shared: Path) -> None:
    ncnn = porter.open(shared / "real/ultraface/ncnn/slim_320.param")
    caffe = porter.open(shared / "real/ultraface/caffe/slim-320.caffemodel")
    there = {t.digest(): t.shape for t in caffe.values()}
    kernels = [t for t in ncnn.values() if t.role == "weight"]
    assert len(kernels) == 42
    assert all(there.get(t.digest()) == t.shape for t in ncnn.values())


def test_yolo_fastest_in_half_precision(shared: Path) -> None:
    store = porter.open(shared / "real/yolofastest/ncnn/yolo-fastest-1.1.bin")
    kinds = {(t.role, t.dtype.name) for t in store.values()}
    assert kinds == {("weight", "float16"), ("bias", "float32")}
    assert len(store) == 168


def test_retinaface_is_a_neighbour_of_the_pytorch_file(shared: Path) -> None:
    """The same net, folded, some steps of training apart: nothing is equal, everything is near."""
    store = porter.open(shared / "real/retinaface_1mb/ncnn/face.param")
    torch = porter.open(shared / "real/retinaface_1mb/RBF_Final.pth")
    kernels = [t.numpy() for t in store.values() if t.role == "weight"]
    assert len(kernels) == 59
    folded = list(_folded(torch))
    for kernel in kernels:
        near = min(float(np.abs(kernel - other).max() / np.abs(kernel).max()) for other in folded if other.shape == kernel.shape)
        assert 0 < near < 0.05


def _folded(store: TensorStore) -> Iterator[np.ndarray]:
    names = list(store)
    for name, behind in itertools.pairwise(names):
        kernel = store[name].numpy()
        if kernel.ndim != 4:
            continue
        norm = behind.removesuffix("weight")
        if norm + "running_var" in store:
            scale = store[behind].numpy().astype("<f8") / np.sqrt(store[norm + "running_var"].numpy().astype("<f8") + 1e-5)
            kernel = kernel * scale.reshape(-1, 1, 1, 1)
        yield kernel
