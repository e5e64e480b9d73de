"""Which part of a checkpoint is read by default, what is said about the rest, and how to choose."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

import porter
from porter.errors import FormatError, PorterError, UnsafeFileError, UsageError

torch = pytest.importorskip("torch")


def weights(count: int = 2, size: int = 3) -> Any:
    return OrderedDict((f"layer{i}.weight", torch.full((size,), float(i))) for i in range(count))


def optimizer() -> Any:
    model = torch.nn.Linear(2, 2)
    adam = torch.optim.Adam(model.parameters())
    model(torch.ones(2)).sum().backward()
    adam.step()
    return adam.state_dict()


def save(value: object, folder: Path) -> Path:
    torch.save(value, folder / "m.pth")
    return folder / "m.pth"


CHOICES = {
    "plain": (lambda: weights(), ""),
    "classification": (
        lambda: {"epoch": 3, "arch": "resnet", "state_dict": weights(), "best_acc1": torch.tensor(7.0), "optimizer": optimizer()},
        "",
    ),
    "lightning": (
        lambda: {
            "epoch": 1,
            "global_step": 2,
            "state_dict": weights(),
            "optimizer_states": [optimizer()],
            "lr_schedulers": [],
            "callbacks": {},
        },
        "",
    ),
    "mmdet": (lambda: {"meta": {"env": "x"}, "state_dict": weights(), "optimizer": optimizer()}, ""),
    "detectron": (lambda: {"model": weights(), "optimizer": optimizer(), "scheduler": {"a": torch.ones(1)}, "iteration": 3}, ""),
    "timm": (lambda: {"state_dict": weights(), "state_dict_ema": weights(), "optimizer": optimizer(), "args": {"x": 1}}, ""),
    "basicsr": (lambda: {"params": weights(), "params_ema": weights()}, ""),
    "only ema": (lambda: {"params_ema": weights()}, ""),
    "ema module": (lambda: {"ema": {"module": weights(), "decay": 0.9}, "epoch": 1}, ""),
    "nested twice": (lambda: {"state": {"model": {"state_dict": weights()}, "optimizer": optimizer()}}, ""),
    "one unknown": (lambda: {"generator": weights(), "optimizer_g": optimizer(), "epoch": 2}, ""),
    "best": (lambda: {"best_model": weights(), "epoch": 2}, ""),
    "tuple": (lambda: (weights(), {"epoch": 3}, optimizer()), ""),
    "weights next to an optimiser": (lambda: {**weights(), "optimizer": optimizer()}, ""),
    "nested model": (lambda: {"model": {"a": weights(), "b": weights()}}, "a b"),
    "nested plain": (lambda: {"a": weights(1), "b": {"c": weights(1)}, "top": torch.ones(1)}, None),
    "list": (lambda: [torch.ones(1), torch.zeros(2)], None),
}


@pytest.mark.parametrize("case", CHOICES)
def test_default_choice(case: str, tmp_path: Path) -> None:
    make, prefixes = CHOICES[case]
    store = porter.open(save(make(), tmp_path))
    if prefixes is not None:
        expected = [p + n for p in ([f"{p}." for p in prefixes.split()] or [""]) for n in weights()]
        assert list(store) == expected
    if case == "nested plain":
        assert list(store) == ["a.layer0.weight", "b.c.layer0.weight", "top"]
    if case == "list":
        assert list(store) == ["0", "1"]


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    make, _ = CHOICES["classification"]
    store = porter.open(save(make(), tmp_path))
    [notice] = store.notices
    assert notice.kind == "note"
    assert notice.message.startswith(
        "the weights are 'state_dict'; left out: epoch (3), arch ('resnet'), best_acc1 (1 tensor, 4 bytes), optimizer ("
    )
    assert "--select" in notice.message


def test_no_notice_where_nothing_is_left_out(tmp_path: Path) -> None:
    assert not porter.open(save(weights(), tmp_path)).notices


def test_entries_that_are_no_tensors_are_named(tmp_path: Path) -> None:
    store = porter.open(save({**weights(), "version": 3, "_extra_state": b"x", "nothing": None, "empty": {}}, tmp_path))
    [notice] = store.notices
    assert notice.kind == "skipped"
    assert "version (3), _extra_state (bytes)" in notice.message


@pytest.mark.parametrize(
    "value",
    [
        lambda: {"G": weights(2), "D": weights(5)},
        lambda: {"model": weights(2), "net": weights(5)},
        lambda: [weights(2), weights(5)],
    ],
    ids=["unknown", "named", "list"],
)
def test_two_candidates_are_listed_with_sizes(value: Any, tmp_path: Path) -> None:
    path = save(value(), tmp_path)
    with pytest.raises(UsageError) as caught:
        porter.open(path)
    assert caught.value.code == "U201"
    assert "(2 tensors, 24 bytes)" in caught.value.message
    assert "(5 tensors, 60 bytes)" in caught.value.message
    assert caught.value.hint is not None
    assert "--select" in caught.value.hint
    first = caught.value.message.rpartition(": ")[2].partition(" ")[0]
    assert len(porter.open(path, select=first)) == 2
    assert len(porter.open(path, select=".")) == 7


def test_only_an_optimiser(tmp_path: Path) -> None:
    path = save({"optimizer": optimizer(), "epoch": 1}, tmp_path)
    with pytest.raises(UsageError) as caught:
        porter.open(path)
    assert caught.value.code == "U201"
    assert len(porter.open(path, select="optimizer")) == 6


def test_select(tmp_path: Path) -> None:
    value = {
        "state_dict": weights(),
        "ema": {"module": weights(3)},
        "optimizer": optimizer(),
        "a.b": {"c": [weights(1), {"d": torch.ones(7)}]},
    }
    path = save(value, tmp_path)
    assert len(porter.open(path, select="ema")) == 3
    assert next(iter(porter.open(path, select="ema"))) == "module.layer0.weight"
    assert next(iter(porter.open(path, select="ema.module"))) == "layer0.weight"
    assert list(porter.open(path, select="a.b.c.1")) == ["d"]
    assert list(porter.open(path, select="a.b.c.1.d")) == ["d"]
    assert list(porter.open(path, select="ema.module.layer0.weight")) == ["layer0.weight"]
    assert list(porter.open(path, select="optimizer"))[:3] == ["state.0.step", "state.0.exp_avg", "state.0.exp_avg_sq"]
    assert len(porter.open(path, select=".")) == 2 + 3 + 6 + 2


@pytest.mark.parametrize("select", ["nothing", "state_dict.nothing", "epoch", "state_dict.layer0.weight.x", ""])
def test_select_of_nothing(select: str, tmp_path: Path) -> None:
    path = save({"state_dict": weights(), "epoch": 3}, tmp_path)
    if select == "":
        assert len(porter.open(path, select=select)) == 2
        return
    with pytest.raises(UsageError) as caught:
        porter.open(path, select=select)
    assert caught.value.code == "U202"
    assert caught.value.hint


def test_modules_within_a_checkpoint(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    path = save({"epoch": 1, "model": model, "ema": model, "updates": 3}, tmp_path)
    assert list(porter.open(path)) == ["0.weight", "0.bias"]
    assert list(porter.open(path, select="model.0")) == ["weight", "bias"]


def test_keys_of_other_types(tmp_path: Path) -> None:
    store = porter.open(
        save({0: torch.ones(1), 1: {True: torch.ones(2)}, b"raw": torch.ones(3), None: torch.ones(4), ("a", 1): torch.ones(5)}, tmp_path)
    )
    assert list(store) == ["0", "1.True", "raw", "None", "('a', 1)"]


def test_names_that_collide(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        porter.open(save({"a.b": torch.ones(1), "a": {"b": torch.ones(2)}}, tmp_path))
    assert caught.value.code == "F004"
    assert caught.value.where.tensor == "a.b"


def test_empty_dictionary(tmp_path: Path) -> None:
    store = porter.open(save({}, tmp_path))
    assert len(store) == 0
    assert store.notices


# Containers that are shared, cyclic or deep


def test_shared_containers_that_unfold(tmp_path: Path) -> None:
    value: Any = {"w": torch.ones(1)}
    for _ in range(60):
        value = {"a": value, "b": value}
    with pytest.raises(PorterError) as caught:
        porter.open(save(value, tmp_path), select=".")
    assert caught.value.code == "S204"


def test_containers_that_hold_themselves(tmp_path: Path) -> None:
    value: dict[str, Any] = {"w": torch.ones(1)}
    value["self"] = value
    with pytest.raises(UnsafeFileError):
        porter.open(save(value, tmp_path))
    value = {"epoch": 1}
    value["self"] = value
    with pytest.raises(FormatError):
        porter.open(save(value, tmp_path))


def test_deep_containers(tmp_path: Path) -> None:
    value: Any = {"w": torch.ones(1)}
    for _ in range(300):
        value = {"x": value}
    with pytest.raises(UnsafeFileError) as caught:
        porter.open(save(value, tmp_path), select=".")
    assert caught.value.code == "S204"
    assert list(porter.open(save(value, tmp_path))) == ["w"]
