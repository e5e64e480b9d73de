"""Maps of language models, on small random ones: what the layouts mean is computed, in float64, and has to come out equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import porter
from porter.conversion import convert
from porter.errors import MapError
from porter.mapping import library
from porter.mapping.execution import apply
from porter.mapping.inverse import invert
from porter.store import TensorStore
from porter.tensor import Tensor

Tensors = dict[str, torch.Tensor]


def store_of(module: nn.Module | Tensors) -> TensorStore:
    tensors = module if isinstance(module, dict) else module.state_dict()
    return TensorStore(Tensor.from_array(name, t.detach().numpy()) for name, t in tensors.items())


def through(name: str, tensors: nn.Module | Tensors, **params: Any) -> Tensors:
    """The tensors after the map, which is also turned around: every bit has to come back."""
    store = store_of(tensors)
    found = library.load(name)
    result = apply(found, store, params=params)
    back = apply(invert(found, params=params), result, params=params)
    assert {t.name: (t.dtype, t.shape, t.tobytes()) for t in back.values()} == {
        t.name: (t.dtype, t.shape, t.tobytes()) for t in store.values()
    }
    return {t.name: torch.from_numpy(t.numpy().copy()) for t in result.values()}


# ---- Llama -------------------------------------------------------------------------------------------------------------


class Names(nn.Module):
    """A module whose children are given by name."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class HuggingFaceLlama(nn.Module):
    """The parameters of a Llama with Hugging Face's names; norms and biases of random values."""

    def __init__(self, heads: int, kv_heads: int, head_dim: int, layers: int = 2, bias: bool = False, tied: bool = False) -> None:
        super().__init__()
        hidden, inner, words = heads * head_dim, 12, 11

        def linear(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
            return nn.Linear(inputs, outputs, bias=bias)

        def block() -> nn.Module:
            attention = Names(
                q_proj=linear(hidden, heads * head_dim, bias),
                k_proj=linear(hidden, kv_heads * head_dim, bias),
                v_proj=linear(hidden, kv_heads * head_dim, bias),
                o_proj=linear(heads * head_dim, hidden),
            )
            mlp = Names(gate_proj=linear(hidden, inner), up_proj=linear(hidden, inner), down_proj=linear(inner, hidden))
            return Names(self_attn=attention, mlp=mlp, input_layernorm=nn.RMSNorm(hidden), post_attention_layernorm=nn.RMSNorm(hidden))

        blocks = nn.ModuleList([block() for _ in range(layers)])
        self.model = Names(embed_tokens=nn.Embedding(words, hidden), layers=blocks, norm=nn.RMSNorm(hidden))
        if not tied:
            self.lm_head = linear(hidden, words)
        for parameter in self.parameters():
            nn.init.normal_(parameter)
        self.double()


def angles(length: int, head_dim: int) -> torch.Tensor:
    """Angle of each pair of rows at each position: (length, head_dim / 2)."""
    return torch.arange(length).double()[:, None] * 10000 ** (-torch.arange(0, head_dim, 2).double() / head_dim)


def rotated_in_halves(x: torch.Tensor) -> torch.Tensor:
    """Hugging Face: row j turns with row j + head_dim/2. x: (length, heads, head_dim)."""
    angle = angles(x.shape[0], x.shape[2])[:, None]
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def rotated_in_pairs(x: torch.Tensor) -> torch.Tensor:
    """Meta: rows 2j and 2j + 1 are one complex number. x: (length, heads, head_dim)."""
    numbers = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    angle = angles(x.shape[0], x.shape[2])[:, None]
    return torch.view_as_real(numbers * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def attention(
    x: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, head_dim: int, rotate: Any, biases: Any = (0, 0, 0)
) -> torch.Tensor:
    """Causal attention; heads of q share those of k and v in groups."""
    length = x.shape[0]
    queries, keys, values = ((x @ w.T + b).view(length, -1, head_dim) for w, b in zip((q, k, v), biases, strict=True))
    queries, keys = rotate(queries), rotate(keys)
    groups = queries.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
    scores = torch.einsum("qhd,khd->hqk", queries, keys) / head_dim**0.5
    scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), values).flatten(1)


GROUPINGS = [(4, 4, 8), (4, 2, 8), (6, 1, 4), (1, 1, 2)]


class TestLlama:
    @pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), GROUPINGS)
    @pytest.mark.parametrize("bias", [False, True])
    def test_attention_is_the_same(self, heads: int, kv_heads: int, head_dim: int, bias: bool) -> None:
        torch.manual_seed(heads * 10 + kv_heads)
        hf = HuggingFaceLlama(heads, kv_heads, head_dim, bias=bias).state_dict()
        meta = through("hf-llama:meta-llama", hf, head_dim=head_dim)
        x = torch.randn(5, heads * head_dim, dtype=torch.float64)
        for n in range(2):
            theirs, ours = f"model.layers.{n}.self_attn.", f"layers.{n}.attention."
            of_hf = [hf[f"{theirs}{part}_proj.weight"] for part in "qkv"]
            of_meta = [meta[f"{ours}w{part}.weight"] for part in "qkv"]
            hf_bias = [hf[f"{theirs}{part}_proj.bias"] for part in "qkv"] if bias else (0, 0, 0)
            meta_bias = [meta[f"{ours}w{part}.bias"] for part in "qkv"] if bias else (0, 0, 0)
            expected = attention(x, *of_hf, head_dim, rotated_in_halves, hf_bias)
            torch.testing.assert_close(attention(x, *of_meta, head_dim, rotated_in_pairs, meta_bias), expected, rtol=1e-12, atol=1e-12)
            if head_dim > 2:
                assert not torch.equal(of_hf[0], of_meta[0]), "rows have to be in another order"
                assert not torch.allclose(attention(x, *of_hf, head_dim, rotated_in_pairs, hf_bias), expected)

    def test_names(self) -> None:
        hf = HuggingFaceLlama(4, 2, 8).state_dict()
        meta = through("hf-llama:meta-llama", hf, head_dim=8)
        pairs = {
            "tok_embeddings.weight": "model.embed_tokens.weight",
            "norm.weight": "model.norm.weight",
            "output.weight": "lm_head.weight",
            "layers.1.attention.wv.weight": "model.layers.1.self_attn.v_proj.weight",
            "layers.1.attention.wo.weight": "model.layers.1.self_attn.o_proj.weight",
            "layers.1.feed_forward.w1.weight": "model.layers.1.mlp.gate_proj.weight",
            "layers.1.feed_forward.w2.weight": "model.layers.1.mlp.down_proj.weight",
            "layers.1.feed_forward.w3.weight": "model.layers.1.mlp.up_proj.weight",
            "layers.1.attention_norm.weight": "model.layers.1.input_layernorm.weight",
            "layers.1.ffn_norm.weight": "model.layers.1.post_attention_layernorm.weight",
        }
        for new, old in pairs.items():
            assert torch.equal(meta[new], hf[old])
        assert len(meta) == len(hf)

    def test_tied(self) -> None:
        hf = HuggingFaceLlama(4, 2, 8, tied=True).state_dict()
        found = library.load("hf-llama-tied:meta-llama")
        meta = apply(found, store_of(hf), params={"head_dim": 8})
        assert meta.ties == {"output.weight": "tok_embeddings.weight"}
        assert len(meta) == len(hf) + 1
        back = apply(invert(found), meta, params={"head_dim": 8})
        assert {n: t.tobytes() for n, t in back.items()} == {n: t.tobytes() for n, t in store_of(hf).items()}
        with pytest.raises(MapError, match=r"there is no tensor 'lm_head.weight'"):
            apply(library.load("hf-llama:meta-llama"), store_of(hf), params={"head_dim": 8})
        untied = {t.name: torch.from_numpy(t.numpy().copy()) for t in meta.values()}
        untied["output.weight"][0, 0] += 1
        with pytest.raises(MapError, match=r"'output.weight' is not equal to 'tok_embeddings.weight'"):
            apply(invert(found), store_of(untied), params={"head_dim": 8})

    def test_constants_of_old_files(self, tmp_path: Path) -> None:
        tensors = HuggingFaceLlama(4, 2, 8).state_dict() | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
        with pytest.raises(MapError, match="nothing is said of a tensor"):
            apply(library.load("hf-llama:meta-llama"), store_of(tensors), params={"head_dim": 8})
        (tmp_path / "m.pmap").write_text('include "hf-llama:meta-llama"\n*.rotary_emb.inv_freq -> drop\n')
        result = apply(library.load(str(tmp_path / "m.pmap")), store_of(tensors), params={"head_dim": 8})
        assert len(result) == len(tensors) - 1

    def test_head_dim_has_to_be_given_and_to_fit(self) -> None:
        store = store_of(HuggingFaceLlama(4, 2, 8))
        with pytest.raises(MapError, match="'head_dim' has no value"):
            apply(library.load("hf-llama:meta-llama"), store)
        for wrong in (7, 6, 3, 0, -8, 1 << 40):
            with pytest.raises(MapError):
                apply(library.load("hf-llama:meta-llama"), store, params={"head_dim": wrong})

    @pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), GROUPINGS)
    def test_qkv_one_after_the_other(self, heads: int, kv_heads: int, head_dim: int) -> None:
        hf = HuggingFaceLlama(heads, kv_heads, head_dim, bias=True).state_dict()
        packed = through("hf-llama:qkv", hf, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        for n in range(2):
            own = f"model.layers.{n}.self_attn."
            for kind in ("weight", "bias"):
                assert torch.equal(packed[f"{own}qkv_proj.{kind}"], torch.cat([hf[f"{own}{part}_proj.{kind}"] for part in "qkv"]))
            gates = torch.cat([hf[f"model.layers.{n}.mlp.{part}_proj.weight"] for part in ("gate", "up")])
            assert torch.equal(packed[f"model.layers.{n}.mlp.gate_up_proj.weight"], gates)
        assert len(packed) == len(hf) - 2 * 5
        assert torch.equal(packed["lm_head.weight"], hf["lm_head.weight"])

    @pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), GROUPINGS)
    def test_qkv_by_groups(self, heads: int, kv_heads: int, head_dim: int) -> None:
        """The rows of each group: the heads of q that share k and v, then k, then v. Computed from the packed matrix as Megatron does."""
        hf = HuggingFaceLlama(heads, kv_heads, head_dim, bias=True).state_dict()
        packed = through("hf-llama:grouped-qkv", hf, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        shared = heads // kv_heads
        own = "model.layers.1.self_attn."
        x = torch.randn(3, heads * head_dim, dtype=torch.float64)
        mixed = (x @ packed[f"{own}qkv_proj.weight"].T + packed[f"{own}qkv_proj.bias"]).view(3, kv_heads, shared + 2, head_dim)
        q, k, v = mixed.split([shared, 1, 1], 2)
        for found, part in ((q, "q"), (k, "k"), (v, "v")):
            expected = x @ hf[f"{own}{part}_proj.weight"].T + hf[f"{own}{part}_proj.bias"]
            torch.testing.assert_close(found.reshape(3, -1), expected, rtol=1e-12, atol=1e-12)

    def test_from_file_to_file(self, tmp_path: Path) -> None:
        porter.save(store_of(HuggingFaceLlama(4, 2, 8)), tmp_path / "hf.safetensors")
        result, _ = convert(tmp_path / "hf.safetensors", tmp_path / "meta.pth", map="hf-llama:meta-llama", params={"head_dim": "8"})
        loaded = torch.load(tmp_path / "meta.pth")
        assert set(loaded) == set(result)
        assert loaded["layers.0.attention.wq.weight"].dtype == torch.float64

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
    def test_any_grouping_comes_back(self, kv_heads: int, shared: int, half: int) -> None:
        torch.manual_seed(0)
        heads, head_dim = kv_heads * shared, 2 * half
        hf = HuggingFaceLlama(heads, kv_heads, head_dim, layers=1)
        sizes = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
        through("hf-llama:meta-llama", hf, head_dim=head_dim)
        through("hf-llama:qkv", hf, **sizes)
        through("hf-llama:grouped-qkv", hf, **sizes)


# ---- GPT-2 -------------------------------------------------------------------------------------------------------------


class Conv1D(nn.Module):
    """GPT-2's own linear layer: y = x w + b."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


def gpt2(size: int = 6, layers: int = 2) -> nn.Module:
    def block() -> nn.Module:
        attn, mlp = (
            Names(c_attn=Conv1D(size, 3 * size), c_proj=Conv1D(size, size)),
            Names(c_fc=Conv1D(size, 4 * size), c_proj=Conv1D(4 * size, size)),
        )
        return Names(ln_1=nn.LayerNorm(size), attn=attn, ln_2=nn.LayerNorm(size), mlp=mlp)

    return Names(
        wte=nn.Embedding(11, size), wpe=nn.Embedding(7, size), h=nn.ModuleList([block() for _ in range(layers)]), ln_f=nn.LayerNorm(size)
    ).double()


class TestGpt2:
    @pytest.mark.parametrize("prefix", ["", "transformer."])
    def test_linear_layers(self, prefix: str) -> None:
        model = gpt2()
        tensors = {prefix + name: t for name, t in model.state_dict().items()}
        found = through("gpt2:linear", tensors)
        assert list(found) == list(tensors)
        x = torch.randn(3, 6, dtype=torch.float64)
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc"):
            linear = nn.functional.linear(x, found[f"{prefix}h.1.{part}.weight"], found[f"{prefix}h.1.{part}.bias"])
            torch.testing.assert_close(linear, model.get_submodule(f"h.1.{part}")(x), rtol=1e-12, atol=1e-12)
        assert torch.equal(found[f"{prefix}wte.weight"], tensors[f"{prefix}wte.weight"])

    def test_split(self) -> None:
        model = gpt2()
        found = through("gpt2:split-qkv", model.state_dict())
        x = torch.randn(3, 6, dtype=torch.float64)
        parts = model.get_submodule("h.0.attn.c_attn")(x).split(6, -1)
        for part, expected in zip("qkv", parts, strict=True):
            own = f"h.0.attn.{part}_attn"
            torch.testing.assert_close(
                nn.functional.linear(x, found[f"{own}.weight"], found[f"{own}.bias"]), expected, rtol=1e-12, atol=1e-12
            )
        assert "h.0.attn.c_attn.weight" not in found

    def test_masks(self, tmp_path: Path) -> None:
        """Buffers of old files are kept, and the map that its comment shows drops them."""
        tensors = gpt2().state_dict() | {"h.0.attn.bias": torch.ones(1, 1, 7, 7), "h.0.attn.masked_bias": torch.tensor(-1e4)}
        assert set(through("gpt2:linear", tensors)) == set(tensors)
        lines = library.text("gpt2:linear").text.splitlines()
        (tmp_path / "m.pmap").write_text("\n".join(line[6:] for line in lines if line.startswith("#     ")))
        result = apply(library.load(str(tmp_path / "m.pmap")), store_of(tensors))
        assert len(result) == len(tensors) - 2
        assert {n.tensor for n in result.notices} == {"h.0.attn.bias", "h.0.attn.masked_bias"}


# ---- Mixtral -----------------------------------------------------------------------------------------------------------


def mixtral(experts: int, layers: int = 2) -> nn.Module:
    def expert() -> nn.Module:
        return Names(w1=nn.Linear(4, 6, bias=False), w2=nn.Linear(6, 4, bias=False), w3=nn.Linear(4, 6, bias=False))

    def block() -> nn.Module:
        moe = Names(gate=nn.Linear(4, experts, bias=False), experts=nn.ModuleList([expert() for _ in range(experts)]))
        return Names(block_sparse_moe=moe, input_layernorm=nn.RMSNorm(4))

    return Names(model=Names(layers=nn.ModuleList([block() for _ in range(layers)]))).double()


def run_expert(x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, w3: torch.Tensor) -> torch.Tensor:
    return (nn.functional.silu(x @ w1.T) * (x @ w3.T)) @ w2.T


class TestMixtral:
    @pytest.mark.parametrize("experts", [1, 3, 12])
    def test_stacked(self, experts: int) -> None:
        tensors = mixtral(experts).state_dict()
        found = through("mixtral:stacked", tensors)
        own = "model.layers.1.block_sparse_moe.experts."
        for w in ("w1", "w2", "w3"):
            assert torch.equal(found[f"{own}{w}"], torch.stack([tensors[f"{own}{e}.{w}.weight"] for e in range(experts)]))
        assert len(found) == 2 * (3 + 2)
        x = torch.randn(5, 4, dtype=torch.float64)
        last = [tensors[f"{own}{experts - 1}.{w}.weight"] for w in ("w1", "w2", "w3")]
        torch.testing.assert_close(run_expert(x, *(found[f"{own}{w}"][-1] for w in ("w1", "w2", "w3"))), run_expert(x, *last))

    def test_fused(self) -> None:
        tensors = mixtral(3).state_dict()
        found = through("mixtral:fused", tensors)
        own = "model.layers.0.block_sparse_moe.experts."
        x = torch.randn(5, 4, dtype=torch.float64)
        for e in range(3):
            gate, up = (x @ found[f"{own}gate_up_proj"][e].T).chunk(2, -1)
            fused = (nn.functional.silu(gate) * up) @ found[f"{own}down_proj"][e].T
            expected = run_expert(x, *(tensors[f"{own}{e}.{w}.weight"] for w in ("w1", "w2", "w3")))
            torch.testing.assert_close(fused, expected, rtol=1e-12, atol=1e-12)

    def test_an_expert_that_is_missing(self) -> None:
        tensors = mixtral(3).state_dict()
        del tensors["model.layers.1.block_sparse_moe.experts.1.w2.weight"]
        with pytest.raises(MapError) as caught:
            apply(library.load("mixtral:stacked"), store_of(tensors))
        assert "1" in caught.value.message

    def test_experts_of_unlike_shapes(self) -> None:
        tensors = mixtral(3).state_dict()
        tensors["model.layers.1.block_sparse_moe.experts.1.w2.weight"] = torch.zeros(4, 5, dtype=torch.float64)
        with pytest.raises(MapError):
            apply(library.load("mixtral:stacked"), store_of(tensors))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.int8])
def test_bits_pass_through(dtype: torch.dtype) -> None:
    """Layouts move elements: NaNs with payloads and negative zeros arrive as they are, in any type."""
    bits = torch.from_numpy(np.random.default_rng(0).integers(-128, 128, (2, 32, 32 * dtype.itemsize), dtype=np.int8))
    tensors = {f"{p}_proj.weight": t.view(dtype) for p, t in zip(("a.q", "a.k"), bits, strict=True)} | {
        "a.v_proj.weight": bits[0].view(dtype)
    }
    sizes = {"heads": 4, "kv_heads": 4, "head_dim": 8}
    store = TensorStore(Tensor.from_array(name, t.numpy()) for name, t in tensors.items())
    found = library.load("hf-llama:grouped-qkv")
    result = apply(found, store, params=sizes)
    back = apply(invert(found, params=sizes), result, params=sizes)
    assert {t.name: t.tobytes() for t in back.values()} == {t.name: t.tobytes() for t in store.values()}
    packed = result["a.qkv_proj.weight"].numpy().reshape(4, 3, 8, -1)
    assert packed[2, 1].tobytes() == tensors["a.k_proj.weight"].numpy().reshape(4, 8, -1)[2].tobytes()
