"""How porter takes over a layer that it does not know: Maxout, the largest of every few channels."""

from porter.graph.caffe.layer import Layer


def maxout(layer: Layer) -> None:
    """Groups of `pieces` channels become one each."""
    layer.need_bottoms(1)
    pieces = layer.parameters.integer("maxout_param.pieces", 2)
    (x,) = layer.bottoms
    images, channels, *places = x.shape
    if pieces < 1 or channels % pieces:
        raise layer.error("G010", f"{channels} channels cannot be put together by {pieces}")
    groups = layer.builder.reshape(x, (images, channels // pieces, pieces, *places), hint="pieces")
    layer.put(layer.builder.reduce("ReduceMax", groups, [2], False))


LAYERS = {"Maxout": maxout}
