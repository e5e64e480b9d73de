"""Porting seen from outside: what a sceptical user tried, each a case that once went wrong or that nothing else holds."""

from __future__ import annotations

import pytest
from graph_nets import one_layer, ported

from porter.errors import GraphError

DATA = 'input: "data" input_shape { dim: 1 dim: 4 dim: 8 dim: 8 }'


def outputs(text: str) -> list[str | None]:
    return [value.name for value in ported(text).model.graph.outputs]


def test_what_is_silenced_is_no_output() -> None:
    """As in Caffe, whose `Silence` is there for that."""
    halves = f"""{DATA} layer {{ name: "s" type: "Slice" bottom: "data" top: "x" top: "y" }}
    layer {{ name: "r" type: "ReLU" bottom: "x" top: "out" }}
    layer {{ name: "quiet" type: "Silence" bottom: "y" }}"""
    assert outputs(halves) == ["out"]
    all_silenced = f'{DATA} layer {{ name: "r" type: "ReLU" bottom: "data" top: "out" }} layer {{ type: "Silence" bottom: "out" }}'
    assert outputs(all_silenced) == ["out"]


@pytest.mark.parametrize(
    "layer",
    [
        'type: "InnerProduct" inner_product_param { num_output: 2147483647 }',
        'type: "Embed" embed_param { input_dim: 2000000000 num_output: 2000000 }',
    ],
)
def test_weights_beyond_caffes(layer: str) -> None:
    """Else terabytes of weights would be made up for a net of one line."""
    with pytest.raises(GraphError, match="more values than a blob of Caffe can") as caught:
        ported(one_layer(layer, (1, 4, 8, 8)))
    assert caught.value.code == "G037"


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_endless_sequences(kind: str) -> None:
    with pytest.raises(GraphError, match="100000 steps") as caught:
        ported(one_layer(f'type: "{kind}" recurrent_param {{ num_output: 1 }}', (100000, 1, 1), cont=(100000, 1)))
    assert caught.value.code == "G019"
