"""Which columns of a source become features, labels and ids, and reading them: missing values, categories, samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukmeans.scale.files import unreadable
from gpukmeans.scale.gathering import TEXT, Matrix, Sample, Values
from gpukmeans.scale.sources import Block, Column, Source

#: Categories of a column above which it has none.
MOST_CATEGORIES = 1000
_CLASS_NAMES = {"label", "labels", "class", "target", "species", "digit", "category"}
#: Names that readers give to columns that have none.
_NAMELESS = re.compile(r"(feature|column|pixel)_\d+(_\d+)*")


@dataclass
class Plan:
    """What becomes of the columns of a source.

    Attributes
    ----------
    numbers : list of str
        Columns that are features.
    categories : dict
        Column -> its categories, each a feature behind the numbers.
    label, id : str or None
    dropped : list of str
    read : list of str
        The columns of the source that are read for `numbers`, if they are called otherwise there.
    notes : list of str
    """

    numbers: list[str]
    categories: dict[str, list[str]] = field(default_factory=dict)
    label: str | None = None
    id: str | None = None
    dropped: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def n_features(self) -> int:
        return len(self.numbers) + sum(map(len, self.categories.values()))


@dataclass(frozen=True)
class Found:
    """What `read_rows` returns: see `gpukmeans.scale.table.Table`; `rows` is None where all were kept."""

    X: NDArray[Any]
    y: NDArray[Any] | None
    ids: NDArray[Any] | None
    rows: NDArray[np.int64] | None
    n_read: int
    missing: dict[str, int]
    notes: list[str]


def planned(
    source: Source,
    recipe: dict[str, Any] | None,
    columns: Sequence[str | int] | None,
    label: str | int | bool | None,
    id: str | int | bool | None,
    drop: Sequence[str | int] | str,
    one_hot: Sequence[str | int] | str,
) -> Plan:
    """What becomes of the columns; parameters are those of `read_table`.

    Raises
    ------
    ValueError
        A column is not there, or holds no numbers and is not said to be anything else.
    """
    place = {column.name: column for column in source.columns}
    if label is None and recipe is not None and recipe["label"] in place:
        label = recipe["label"]
    if id is None and recipe is not None and recipe["id"] in place:
        id = recipe["id"]
    kept_apart = [
        _resolve(source, value, what) if value not in (None, False) else None
        for what, value in (("label", label), ("id", id))
    ]
    dropped = [_resolve(source, name, "drop") for name in _listed(drop)]
    one_hots = [_resolve(source, name, "one_hot") for name in _listed(one_hot)]
    chosen = None if columns is None else [_resolve(source, name, "columns") for name in columns]
    notes = list[str]()
    taken = {*dropped, *one_hots, *(chosen or ()), *(recipe["columns"] if recipe else ())}
    for index, (what, value) in enumerate((("label", label), ("id", id))):
        if value is None:
            guess = next(
                (c.name for c in source.columns if c.use == what and c.name not in taken | set(kept_apart)), None
            )
            kept_apart[index] = guess
            if guess is not None:
                notes.append(f"{what}s: column {guess!r:.80}")
    own_label, own_id = kept_apart
    plan = Plan([], label=own_label, id=own_id, dropped=dropped, notes=notes)
    if recipe is not None:
        return _as_before(source, recipe, plan)
    away = {own_label, own_id, *dropped}
    features = [c for c in source.columns if c.name not in away and c.kind != "beside"]
    if chosen is not None:
        wanted = {*chosen, *one_hots} - {own_label, own_id}
        features = [column for column in features if column.name in wanted]
    if wrong := [c for c in features if c.kind != "number" and c.name not in one_hots]:
        listed = ", ".join(f"{c.name!r:.60} ({c.holds})" for c in wrong[:5]) + f" and {len(wrong) - 5} more" * (
            len(wrong) > 5
        )
        raise unreadable(
            source.where,
            f"no numbers in {listed}; such columns are named in drop='NAME' or one_hot='NAME', or one is label='NAME', "
            "one id='NAME'",
        )
    plan.numbers = plan.read = [c.name for c in features if c.name not in one_hots]
    plan.categories = _categories(source, [name for name in one_hots if name not in away])
    if not plan.n_features:
        raise unreadable(source.where, f"no column is left to cluster by; it has {_names(source.columns)}")
    if counters := [c.name for c in features if c.use == "counter" and c.name in plan.numbers]:
        plan.notes.append(
            f"{counters[0]!r:.80} counts the rows and is clustered by like any column; drop={counters[0]!r:.80} leaves "
            "it out"
        )
    if suspects := [name for name in plan.numbers if name.strip().lower() in _CLASS_NAMES]:
        plan.notes.append(
            f"{suspects[0]!r:.80} is clustered by like any column; label={suspects[0]!r:.80} if it is the class"
        )
    if own_label is None and (classes := [c.name for c in source.columns if c.use == "classes"]):
        plan.notes.append(f"in several {classes[0]}s: label={classes[0]!r} compares the clusters with them")
    return plan


def _listed(names: Sequence[str | int] | str) -> list[str | int]:
    return [names] if isinstance(names, str | int) else list(names)


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(repr(column.name)[:60] for column in columns[:12]) + ", ..." * (len(columns) > 12)


def _resolve(source: Source, name: str | int | bool, what: str) -> str:
    """The name of a column that is given by its name or place."""
    found = column_of([column.name for column in source.columns], name)
    if found is None:
        raise unreadable(
            source.where,
            f"{what}={name!r:.80} is no column; it has {_names(source.columns)} (numbers not among them are places, "
            "from 0)",
        )
    return found


def column_of(names: Sequence[str], given: Any) -> str | None:
    """The name of a column that is given by its name or, if none is called so, by its place, a number or its digits."""
    if given in names:
        return str(given)
    place = as_place(given)
    return names[place] if place is not None and -len(names) <= place < len(names) else None


def as_place(given: Any) -> int | None:
    """The place that a number, or a text of digits, stands for."""
    if isinstance(given, str):
        return int(given) if given.isdecimal() else None
    return int(given) if isinstance(given, int | np.integer) and not isinstance(given, bool) else None


def _as_before(source: Source, recipe: dict[str, Any], plan: Plan) -> Plan:
    """The columns of a recipe, by their names; by their places where the source has no names of its own."""
    plan.numbers, plan.categories = list(recipe["columns"]), dict(recipe["one_hot"])
    kind = {column.name: column.kind for column in source.columns}
    own = [c.name for c in source.columns if c.kind == "number" and c.name not in (plan.label, plan.id, *plan.dropped)]
    plan.read = plan.numbers
    lacking = [name for name in [*plan.numbers, *plan.categories] if name not in kind]
    if lacking and len(own) == len(plan.numbers) and not plan.categories and all(map(_NAMELESS.fullmatch, own)):
        plan.read, lacking = own, []
    if lacking:
        listed = ", ".join(repr(name)[:60] for name in lacking[:5]) + f" and {len(lacking) - 5} more" * (
            len(lacking) > 5
        )
        raise unreadable(
            source.where, f"no column {listed}, which the model was fitted with; it has {_names(source.columns)}"
        )
    if wrong := [name for name in plan.read if kind[name] != "number"]:
        raise unreadable(source.where, f"column {wrong[0]!r:.80} holds no numbers, as it did when the model was fitted")
    return plan


def _categories(source: Source, names: list[str]) -> dict[str, list[str]]:
    """The categories of some columns, sorted, from a pass over them alone."""
    found: list[set[str]] = [set() for _ in names]
    for block in source.blocks([], names) if names else ():
        for known, values in zip(found, block.others, strict=True):
            known.update(np.unique(_as_text(values)).tolist())
            if len(known) > MOST_CATEGORIES:
                name = names[found.index(known)]
                raise unreadable(
                    source.where, f"column {name!r:.80} has more than {MOST_CATEGORIES:,} categories; drop it"
                )
    return {name: sorted(known - {""}) for name, known in zip(names, found, strict=True)}


def _as_text(values: NDArray[Any]) -> NDArray[Any]:
    """Categories as texts: whole numbers without decimals, '' where one is missing."""
    if values.dtype == TEXT:
        return values
    if values.dtype.kind == "f":
        texts = [
            "" if value != value else str(int(value)) if value.is_integer() else repr(value)
            for value in values.tolist()
        ]
        return np.array(texts, TEXT)
    return values.astype(TEXT)


def read_rows(source: Source, plan: Plan, missing: str, sample: int | None, random_state: int, max_bytes: int) -> Found:
    """Read all rows once, block by block.

    Raises
    ------
    ValueError
        Values are missing (unless `missing` is "drop" or "mean"), infinite, or no numbers; there are no rows; or they
        take more than `max_bytes`.
    """
    beside = [name for name in (plan.label, plan.id) if name is not None]
    others = [*plan.categories, *beside]
    names = [*plan.numbers, *plan.categories]
    counts, n_infinite = np.zeros(len(names), np.int64), np.zeros(len(plan.numbers), np.int64)
    dtype = source.row_dtype(plan.read) if plan.read else np.dtype(np.uint8)
    n_expected = source.n_expected if sample is None else min(2 * sample, source.n_expected)
    least = plan.n_features * dtype.itemsize * (source.n_rows or 0)
    if sample is None and least > max_bytes:
        raise unreadable(
            source.where,
            f"{source.n_rows:,} rows of {plan.n_features:,} features take {least:,} bytes, more than "
            f"max_bytes={max_bytes:,}; read a sample, fewer columns, or allow more",
        )
    X = Matrix(source.where, plan.n_features, n_expected, dtype, max_bytes)
    tracked = missing == "drop" or sample is not None
    kept, collected = Values(), {name: Values() for name in beside}
    drawn = None if sample is None else Sample(sample, random_state)
    n_read = n_dropped = 0
    for block in source.blocks(plan.read, others):
        rows, missed, infinite = _block_rows(block, plan, source.where)
        counts += missed.sum(axis=0)
        n_infinite += infinite
        places = np.arange(n_read, n_read + len(rows))
        n_read += len(rows)
        values = block.others[len(plan.categories) :]
        if missing == "drop" and missed.any():
            whole = np.flatnonzero(~missed.any(axis=1))
            n_dropped += len(rows) - len(whole)
            rows, places, values = rows[whole], places[whole], [value[whole] for value in values]
        if drawn is not None:
            some = drawn.of_block(len(rows))
            rows, places, values = rows[some], places[some], [value[some] for value in values]
        X.add(rows)
        if tracked:
            kept.add(places)
        for name, value in zip(beside, values, strict=True):
            collected[name].add(value)
        if sum(values.n_bytes for values in collected.values()) > max_bytes:
            raise unreadable(
                source.where, f"labels or ids take more than max_bytes={max_bytes:,}; leave them out or allow more"
            )
        if drawn is not None and (stay := drawn.kept()) is not None:
            _keep(stay, X, kept, collected)
    if drawn is not None:
        _keep(drawn.last(), X, kept, collected)
    there = {name: int(count) for name, count in zip(names, counts, strict=True) if count}
    notes = _told(source.where, plan, missing, there, n_infinite, n_read, n_dropped)
    if not X.n_rows:
        raise unreadable(source.where, f"no rows{f': values are missing in all {n_read:,}' if n_read else ''}")
    all_kept = X.n_rows == n_read
    return Found(
        X.finished(),
        collected[plan.label].finished() if plan.label is not None else None,
        collected[plan.id].finished() if plan.id is not None else None,
        None if all_kept else kept.finished().astype(np.int64),
        n_read,
        there,
        notes,
    )


def _keep(rows: NDArray[np.intp], X: Matrix, kept: Values, collected: dict[str, Values]) -> None:
    X.keep(rows)
    for values in (kept, *collected.values()):
        values.keep(rows)


def _block_rows(block: Block, plan: Plan, where: str) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.int64]]:
    """Rows of all features, which columns miss a value in each, and how many infinite values each number column has."""
    numbers = block.numbers
    finite = np.isfinite(numbers) if numbers.dtype.kind == "f" else np.ones((len(numbers), numbers.shape[1]), bool)
    missed = np.zeros((len(numbers), numbers.shape[1] + len(plan.categories)), bool)
    infinite = np.zeros(numbers.shape[1], np.int64)
    if not finite.all():
        missed[:, : numbers.shape[1]] = np.isnan(numbers)
        infinite += np.isinf(numbers).sum(axis=0)
    if not plan.categories:
        return numbers, missed, infinite
    parts = [numbers.astype(np.float64, copy=False)]
    for index, (name, categories) in enumerate(plan.categories.items()):
        values = _as_text(block.others[index])
        absent = values == ""
        ones = (values[:, None] == np.array(categories, TEXT)).astype(np.float64)
        if unknown := np.unique(values[~absent & ~ones.any(axis=1)]).tolist():
            raise unreadable(
                where,
                f"column {name!r:.80} holds {unknown[0]!r:.80}, a category that the model does not know; it knows "
                f"{', '.join(f'{each!r:.40}' for each in categories[:6])}{', ...' * (len(categories) > 6)}",
            )
        ones[absent] = np.nan
        missed[:, numbers.shape[1] + index] = absent
        parts.append(ones)
    return np.hstack(parts), missed, infinite


def _told(
    where: str,
    plan: Plan,
    missing: str,
    there: dict[str, int],
    n_infinite: NDArray[np.int64],
    n_read: int,
    n_dropped: int,
) -> list[str]:
    """What is to be told of missing values; raises where they, or infinite ones, cannot be clustered."""
    if n_infinite.any():
        listed = _counted({name: int(n) for name, n in zip(plan.numbers, n_infinite, strict=True) if n})
        raise unreadable(where, f"infinite values in {listed} of {n_read:,} rows; mend them, or leave the column out")
    if not there:
        return []
    listed = _counted(there)
    if missing == "error":
        raise unreadable(
            where,
            f"{sum(there.values()):,} missing values in {n_read:,} rows: {listed}; missing='drop' leaves these rows "
            "out, missing='mean' puts the mean in their place",
        )
    done = f"{n_dropped:,} of {n_read:,} rows left out" if missing == "drop" else "means in their place"
    return [f"missing values: {listed}; {done}"]


def _counted(counts: dict[str, int]) -> str:
    worst = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name!r:.60} {n:,}" for name, n in worst[:6]) + f" and {len(worst) - 6} more" * (len(worst) > 6)
