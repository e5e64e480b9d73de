"""Every network that was run through the real Caffe: the graph gives the same values at every layer, with the batch open as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_runs import cases, compare, golden, imported, recorded_inputs, run

from porter.errors import GraphError

NO_OPEN_BATCH = {
    # What comes together along the batch, with something that is none of its images; a Reshape that states the size of the batch.
    *("Concat_axis0", "Slice_slice_dim0", "Reshape_fixed"),
    # The first dimension is time.
    *("LSTM_basic", "LSTM_cont_ones", "LSTM_reset_mid", "LSTM_static", "LSTM_x3d", "RNN_basic", "RNN_reset_mid"),
}


def folders(shared: Path, part: str) -> list[Path]:
    return cases(shared / "oracle" / part)


@pytest.mark.parametrize(("part", "least"), [("", 21), ("zoo", 275)])
def test_all_recorded_networks(shared: Path, part: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Within 1e-5 of the blob's largest magnitude, at every layer, end to end."""
    lines, worst = [], {}
    for folder in folders(shared, part):
        found = compare(folder, imported(folder))
        worst[folder.name] = max(d.relative for d in found)
        lines.append(f"{folder.name:45} {len(found):4} tops, at most {worst[folder.name]:.1e} apart")
    good = sum(w <= 1e-5 for w in worst.values())
    with capsys.disabled():
        print("\n" + "\n".join([*lines, f"{good} of {len(worst)} networks of oracle/{part} agree with Caffe within 1e-5"]))
    assert len(worst) >= least
    assert good == len(worst), {name: w for name, w in worst.items() if w > 1e-5}


@pytest.mark.parametrize("part", ["", "zoo"])
def test_all_recorded_networks_with_an_open_batch(shared: Path, part: str) -> None:
    """The same values, and those of each image twice for twice the images, where outputs are of images."""
    for folder in folders(shared, part):
        if folder.name in NO_OPEN_BATCH:
            with pytest.raises(GraphError, match="G002"):
                imported(folder, dynamic_batch=True)
            continue
        net = imported(folder, dynamic_batch=True)
        assert max(d.relative for d in compare(folder, net)) <= 1e-5, folder.name
        opened = {v.name for v in (*net.model.graph.inputs, *net.model.graph.outputs) if v.shape and str(v.shape[0]) == "N"}
        outputs = [o.name or "" for o in net.model.graph.outputs if o.name in opened]
        once = recorded_inputs(golden(folder), net)
        if outputs:
            twice = {name: np.concatenate([x, x]) if name in opened else x for name, x in once.items()}
            one, two = run(net, once), run(net, twice)
            for name in outputs:
                expected = np.concatenate([one[name], one[name]])
                np.testing.assert_allclose(two[name], expected, rtol=1e-4, atol=1e-5, err_msg=f"{folder.name}: {name}")


@pytest.mark.parametrize("opset", [13, 15, 18, 21])
def test_recorded_structures_at_every_opset(shared: Path, opset: int) -> None:
    for folder in folders(shared, "zoo"):
        if folder.name.startswith(("Structure_", "Reduction_", "ArgMax_", "Upsample_", "LSTM_", "MVN_", "Pooling_", "Interp_")):
            net = imported(folder, opset=opset)
            assert net.model.opset_imports[""] == opset
            assert max(d.relative for d in compare(folder, net)) <= 1e-5, folder.name
