"""Tables whose rows a map takes from the file at hand: `table norm from caffe.batch_norm_layers`.

A provider is called `<area>.<table>`. Other packages add areas through the entry-point group `porter.map_tables`: an entry
point's name is the area's, its object computes all tables of it from a store (`porter.mapping.tables.base.Area`). Tables are
those of the file as it was read, in whichever stage of a map they stand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from porter.errors import MapError, PorterError, did_you_mean, printable
from porter.mapping.syntax import NOWHERE, Span, Table
from porter.store import TensorStore

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from porter.mapping.tables.base import Area, Rows, Tables

GROUP = "porter.map_tables"

_BUILT_IN = MappingProxyType(
    {
        # Area to the module that has `tables`, the formats whose own files it is about, and what it looks for in a file.
        "caffe": ("porter.mapping.tables.caffe", ("caffe", "hdf5"), "layers of a Caffe net"),
        "keras": ("porter.mapping.tables.keras", ("hdf5",), "layers of a Keras model"),
        "resnet": ("porter.mapping.tables.resnet", (), "blocks of a ResNet"),
    }
)


def rows(provider: str, store: TensorStore, target: TensorStore | None = None, span: Span = NOWHERE) -> Rows:
    """The rows of the table `provider`, computed from `store`, or from `target` where that is the file the table is about.

    Reads no values. What a user has to know is noted in the store that was asked.

    Raises:
        MapError: there is no such provider, neither store tells, or the provider of another package failed.
        FormatError: what the file says of its network is broken.
    """
    return provider_of(store, target)(Table("", provider=provider, span=span))


def provider_of(store: TensorStore, target: TensorStore | None = None) -> Callable[[Table], Rows]:
    """As `rows`, for all tables of a map: an area is computed once."""
    known: dict[str, Tables] = {}

    def rows_of(table: Table) -> Rows:
        area, _, name = (table.provider or "").partition(".")
        if area not in known:
            known[area] = _computed(area, _candidates(area, store, target), table)
        if name not in known[area].rows:
            hint = _nearest(name, known[area].rows)
            raise table.span.error("M272", f"'{area}' has no table '{printable(name)}'", hint=hint)
        return known[area].rows[name]

    return rows_of


def areas() -> list[str]:
    """The names of all areas, sorted. Looks at what packages are installed."""
    return sorted([*_BUILT_IN, *_entry_points()])


def _candidates(area: str, store: TensorStore, target: TensorStore | None) -> list[TensorStore]:
    """The stores to ask, in order: one in the area's own format first, for a file may carry traces of what it was made from."""
    formats = _BUILT_IN[area][1] if area in _BUILT_IN else ()
    stores = [s for s in (store, target) if s is not None]
    return sorted(stores, key=lambda s: s.source is None or s.source.format not in formats)


def _computed(area: str, stores: list[TensorStore], table: Table) -> Tables:
    compute = _area(area, table)
    for store in stores:
        found = _asked(compute, store, area, table)
        if found is not None:
            for message in found.notices:
                if all(notice.message != message for notice in store.notices):
                    store.note("note", message)
            return found
    what = _BUILT_IN[area][2] if area in _BUILT_IN else "what it needs"
    raise table.span.error(
        "M273",
        f"the table '{table.name}' is made from {what}, and the file has none" if table.name else f"the file has no {what}",
        hint="use the map on a file of that kind" + ("; for the way back, give the net with --net" if area == "caffe" else ""),
    )


def _asked(compute: Area, store: TensorStore, area: str, table: Table) -> Tables | None:
    """What `compute` makes of `store`; whatever another package's code does ends as an error that names it."""
    if area in _BUILT_IN:
        return compute(store)
    try:
        found = compute(store)
        return None if found is None else _checked(found)
    except PorterError:
        raise
    except Exception as error:
        message = f"the tables of '{area}' cannot be computed: {type(error).__name__}: {error}"
        raise table.span.error("M274", message, hint=f"they are those of {_entry_points()[area].value}") from error


def _checked(found: Tables) -> Tables:
    """`found` as plain tuples of texts.

    Raises:
        ValueError: a row is something else, or a word stands twice in its column.
    """
    from porter.mapping.tables.base import Tables

    checked: dict[str, Rows] = {}
    for name, pairs in found.rows.items():
        checked[name] = plain = tuple([(left, right) for left, right in pairs])
        if not all(isinstance(word, str) and word for pair in plain for word in pair):
            raise ValueError(f"'{name}' has a row that is not two words")
        if any(len({pair[side] for pair in plain}) < len(plain) for side in (0, 1)):
            raise ValueError(f"'{name}' has a word twice in one column")
    return Tables(checked, tuple(map(str, found.notices)))


def _area(area: str, table: Table) -> Area:
    if area in _BUILT_IN:
        return cast("Area", importlib.import_module(_BUILT_IN[area][0]).tables)
    point = _entry_points().get(area)
    if point is None:
        raise table.span.error("M272", f"no tables are called '{printable(table.provider or '')}'", hint=_nearest(area, areas()))
    try:
        return cast("Area", point.load())
    except Exception as error:  # whatever a package does when it is imported
        raise table.span.error(
            "M274", f"the tables of '{area}' cannot be loaded from {point.value}: {error}", hint="install its package again, or remove it"
        ) from error


@cache
def _entry_points() -> Mapping[str, EntryPoint]:
    """The areas of other packages by name.

    Raises:
        MapError: one has a name that is taken.
    """
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in _BUILT_IN or found.get(point.name, point).value != point.value:
            hint = "remove the package, or ask its author for another name"
            raise MapError("M274", f"{point.value} has tables called '{point.name}', and so has another package", hint=hint)
        found[point.name] = point
    return MappingProxyType(found)


def _nearest(word: str, known: Mapping[str, object] | list[str]) -> str:
    return did_you_mean(word, known) or f"known: {', '.join(sorted(known))}"
