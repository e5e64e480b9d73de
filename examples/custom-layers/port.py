"""Takes `net.prototxt` over, with weights made up for it, and prints the nodes."""

from porter.formats.caffe.net import net_from_prototxt
from porter.graph.caffe.custom import load
from porter.graph.caffe.importer import ImportOptions, import_net

net = import_net(net_from_prototxt("net.prototxt"), None, ImportOptions(custom=load("my_layers.py")))
for node in net.model.graph:
    shape = "×".join(str(n) for n in node.outputs[0].shape)
    print(f"{node.name:12} {node.op_type:10} {shape}")
