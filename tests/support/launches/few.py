"""Launches of the kernels that screen rows in half precision; in plain Python, how rows and centers become halves."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from gpukmeans.backends.cuda import tuning
from gpukmeans.backends.cuda.control import HISTORY, Control, Fact, History, Measure, Reason, Scale
from gpukmeans.certificates.halves import WORST_TENSOR_CORES, half_score_radius, tensor_accumulation
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from gpukmeans.certificates.scores import square_distance_radius
from gpukmeans.exact.sums import Grid
from tests.support.assertions import half_screen
from tests.support.launches.common import control_words, filled, launch, rows_struct, scale_words, struct

FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class RowKind:
    """An element type of the rows: its name in the kernels, and the dtypes of arrays that store it."""

    name: str
    storage: type
    center: type

    @property
    def run(self):
        return tuning.run_length(np.dtype(self.storage))

    def n_steps(self, d):
        return tuning.n_steps(d, np.dtype(self.storage))

    def store(self, values):
        """The nearest values of this type."""
        if self.name == "Half":
            return np.asarray(values, np.float16).view(np.uint16)
        if self.name == "BFloat16":  # cut off, not rounded
            return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return np.asarray(values).astype(self.storage)

    def widen(self, X):
        """Stored rows as float64."""
        if self.name == "Half":
            return X.view(np.float16).astype(np.float64)
        if self.name == "BFloat16":
            return (X.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return X.astype(np.float64)

    def constants(self, **more):
        center = tuning.C_TYPES[np.dtype(self.center)]
        return {"ROW": self.name, "CENTER": center, **more}


KINDS = {
    kind.name: kind
    for kind in (
        RowKind("unsigned char", np.uint8, np.float64),
        RowKind("float", np.float32, np.float32),
        RowKind("double", np.float64, np.float64),
        RowKind("Half", np.uint16, np.float32),
        RowKind("BFloat16", np.uint16, np.float32),
    )
}
BYTE, FLOAT, DOUBLE = (KINDS[name] for name in ("unsigned char", "float", "double"))


def data(kind, n, k, d, seed=0):
    """Rows as stored, and centers of the same distribution."""
    local = np.random.default_rng(seed)
    if kind is BYTE:
        return local.integers(0, 256, (n, d)).astype(np.uint8), local.uniform(0, 255, (k, d))
    return kind.store(local.standard_normal((n, d))), local.standard_normal((k, d)).astype(kind.center)


@dataclass(frozen=True)
class Scaling:
    """z = x * scale + offset, which rows and centers are before they are rounded to halves."""

    scale: float
    offsets: np.ndarray  # (16 n_steps,) float32, zeros beyond the last column

    def z(self, values):
        """In float64, which rounds z once."""
        return np.asarray(values, np.float64) * self.scale + self.offsets[: np.shape(values)[1]].astype(np.float64)


def scaling(kind, X, scale=256.0):
    """About the rows' mean, as the backend does; bytes keep their scale."""
    n_steps, wide = kind.n_steps(X.shape[1]), kind.widen(X)
    offsets = np.zeros(16 * n_steps, np.float32)
    scale = 1.0 if kind is BYTE else scale
    offsets[: X.shape[1]] = -np.rint(wide.mean(axis=0) * scale) if kind is BYTE else -wide.mean(axis=0) * scale
    return Scaling(scale, offsets)


def halves_of(z):
    """Rounded to float32, then to half precision."""
    with np.errstate(over="ignore"):
        return z.astype(np.float32).astype(np.float16)


def laid_out(kind, halves, n_padded):
    """half_centers of kernels/screen.cuh in its four dimensions (tile, step, lane, element), from (k, d) float16."""
    (k, d), run = halves.shape, kind.run
    places = np.zeros((n_padded // 8, kind.n_steps(d), 32, 4), np.uint16)
    for j in range(k):
        for f in range(d):
            group, within = divmod(f, 4 * run)  # the four lanes of a center take turns, a run each
            t, r = divmod(within, run)
            step = group * (run // 4) + r // 4
            places[j // 8, step, 4 * (j % 8) + t, r % 4] = halves[j, f].view(np.uint16)
    return places


def row_facts(device, kind, X, scaled):
    """norms, rests, the largest magnitude."""
    n, d = X.shape
    norms, rests = device.empty(n, np.float32), device.empty(n, np.float32)
    scales = device.upload(scale_words(scaled.scale, largest_whole=0.0))
    offsets = device.upload(scaled.offsets)
    scaling = struct(device, "Scaling", scales=scales, offsets=offsets, n_steps=kind.n_steps(d))
    args = (rows_struct(device, X), scaling, norms, rests, None, None)
    launch(device, "row_facts", {"ROW": kind.name, "VECTOR": 0}, 2, 256, *args)
    return device.download(norms), device.download(rests), float(device.download(scales)[Scale.LARGEST_WHOLE])


def facts_of(kind, C, scaled, *, whole=False):
    """The facts of the centers that the device computes, from NumPy."""
    z = scaled.z(C)
    rest = np.sqrt(((z - halves_of(z).astype(np.float64)) ** 2).sum(axis=1))
    norm = np.sqrt((z**2).sum(axis=1)) + rest
    bound = half_score_radius(
        tensor_accumulation(16 * kind.n_steps(C.shape[1]), WORST_TENSOR_CORES),
        norm.max() * (1 + 1e-12),
        rest.max() * (1 + 1e-12),
    )
    facts = np.zeros(len(Fact), np.float32)
    facts[[Fact.PER_REST, Fact.PER_NORM, Fact.CONSTANT]] = bound.per_rest, bound.per_norm, bound.constant
    facts *= np.float32(1 + 2**-20)
    facts[Fact.WHOLE] = whole
    return facts


def nearest_of_few(
    device,
    kind,
    X,
    C,
    *,
    labels=None,
    limits=None,
    drift=None,
    dead=(),
    exact=True,
    tiles=None,
    vector=False,
    scaled=None,
    facts=None,
    whole=False,
    radius64=None,
    **words,
):
    """One assignment: labels, limits, moved (row -> old label), open_rows, control; and the arguments of the screen."""
    (n, d), k = X.shape, len(C)
    tiles = tiles or tuning.few_tiles(k)
    scaled = scaled or scaling(kind, X)
    norms, rests, _ = row_facts(device, kind, X, scaled)
    z, living = scaled.z(C), np.ones(k, bool)
    living[list(dead)] = False
    half_squares = np.full(8 * tiles, -np.inf, np.float32)
    half_squares[:k][living] = np.maximum(-0.5 * (z**2).sum(axis=1), -FLOAT32_MAX)[living]
    halves = device.upload(laid_out(kind, halves_of(z), 8 * tiles).reshape(-1))
    facts = facts_of(kind, C, scaled, whole=whole) if facts is None else np.asarray(facts, np.float32)
    drift = np.zeros(k, np.float32) if drift is None else drift
    on_device = device.upload(np.full(n, -1, np.int32) if labels is None else labels)
    limits = device.upload(np.full(n, np.nan, np.float32) if limits is None else limits)
    lists = [device.upload(np.full(n, -7, np.int32)) for _ in range(3)]
    control = device.upload(control_words(**words))
    radius64 = (square_distance_radius(d), SQUARE_UNDERFLOW) if radius64 is None else radius64
    launch(
        device,
        "nearest_of_few",
        kind.constants(VECTOR=int(vector), TILES=tiles),
        -(-n // tuning.FEW_ROWS),
        128,
        struct(
            device,
            "Operands",
            {"ROW": X.dtype},
            X=device.upload(X),
            norms=device.upload(norms),
            rests=device.upload(rests),
            scales=device.upload(scale_words(scaled.scale)),
            offsets=device.upload(scaled.offsets),
            half_centers=halves,
            d=d,
            n_steps=kind.n_steps(d),
        ),
        struct(device, "Centers", half_squares=device.upload(half_squares), facts=device.upload(facts), k=k),
        struct(
            device,
            "StoredCenters",
            {"CENTER": C.dtype},
            C=device.upload(C),
            radius=radius64[0],
            underflow=radius64[1],
        ),
        struct(device, "Limits", drift_so_far=device.upload(drift), limits=limits, n=n),
        np.int32(exact),
        struct(device, "Moves", labels=on_device, rows=lists[0], old=lists[1], control=control),
        lists[2],
    )
    control = device.download(control)
    count, n_open = control[Control.N_MOVED], control[Control.N_OPEN]
    rows, old, open_rows = (device.download(part) for part in lists)
    assert len(set(rows[:count].tolist())) == count
    assert len(set(open_rows[:n_open].tolist())) == n_open
    assert (rows[count:] == -7).all()
    assert (old[count:] == -7).all()
    assert (open_rows[n_open:] == -7).all()
    return SimpleNamespace(
        labels=device.download(on_device),
        limits=device.download(limits),
        moved=dict(zip(rows[:count].tolist(), old[:count].tolist(), strict=True)),
        open_rows=sorted(open_rows[:n_open].tolist()),
        control=control,
        norms=norms,
        rests=rests,
        facts=facts,
        scaled=scaled,
    )


def screen_of(kind, X, C, got):
    """The scores of an assignment by `nearest_of_few` and their radius, for `assert_labels`."""
    facts = got.facts.astype(np.float64)
    radii = facts[Fact.PER_REST] * got.rests + facts[Fact.PER_NORM] * got.norms + facts[Fact.CONSTANT]
    return half_screen(got.scaled.z(kind.widen(X)), got.scaled.z(C), radii)


class Centers:
    """What kernels/update_centers.cu keeps on the device between launches."""

    def __init__(self, device, kind, C, scaled, *, slots=None, tolerance=-1.0, rows_largest=np.inf, **words):
        self.device, self.kind, self.scaled, self.rows_largest = device, kind, scaled, rows_largest
        self.k, self.d = C.shape
        self.n_padded = 8 * tuning.few_tiles(min(self.k, tuning.FEW_CENTERS)) + 8 * (self.k // 8)
        k, columns = self.k, len(scaled.offsets)
        self.C, self.previous = device.upload(C), device.empty(C.shape, C.dtype)
        self.half_centers = filled(device, self.n_padded * columns, np.uint16)
        self.half_squares = device.upload(np.full(self.n_padded, -np.inf, np.float32))
        self.measures = device.empty((len(Measure), k), np.float64)
        self.facts, self.drift = device.empty(len(Fact), np.float32), filled(device, k, np.float32)
        self.table = filled(device, slots or tuning.hash_slots(k), np.uint64)
        self.tolerance = device.upload(np.full(1, float(tolerance)))
        self.history = device.empty((HISTORY, len(History)), np.float64)
        self.control = device.upload(control_words(**{"N_LIMIT": HISTORY, **words}))

    def launch(self, sums=None, weight_sums=None, grid=None, weight_grid=None):
        """New centers from sums; without sums, the facts of the given centers."""
        device, given = self.device, sums is None
        upload = [None, None, None]
        n_limbs = 0
        if not given:
            n_limbs = max(len(sums), len(weight_sums))
            sums, weight_sums = (
                np.concatenate([a, np.zeros((n_limbs - len(a), *a.shape[1:]), np.int64)]) for a in (sums, weight_sums)
            )
            upload = [device.upload(a) for a in (sums, weight_sums, 1.0 / grid.scale)]
        grid, weight_grid = grid or Grid(np.ones(self.d), 36, 0), weight_grid or Grid(np.ones(1), 36, 1)
        columns = len(self.scaled.offsets)
        launch(
            device,
            "update_centers",
            self.kind.constants(VECTOR=0, GIVEN=int(given)),
            self.k,
            256,
            struct(device, "Sums", sums=upload[0], weights=upload[1], k=self.k, d=self.d),
            struct(
                device,
                "Means",
                unit=upload[2],
                limb_unit=2.0**-grid.bits,
                weight_unit=2.0**-weight_grid.bits,
                n_limbs=n_limbs,
            ),
            device.upload(scale_words(self.scaled.scale, weight_grid.scale[0], self.rows_largest)),
            struct(device, "NewCenters", {"CENTER": self.C.dtype}, C=self.C, previous=self.previous),
            struct(
                device,
                "CenterCopies",
                {"Copy": np.uint16, "HalfSquare": np.float32},
                offsets=device.upload(self.scaled.offsets),
                half_centers=self.half_centers,
                half_squares=self.half_squares,
                starts=None,
                n_padded=self.n_padded,
                n_steps=columns // 16,
            ),
            struct(
                device,
                "NextFacts",
                measures=self.measures,
                facts=self.facts,
                drift_so_far=self.drift,
                accumulation=tensor_accumulation(columns, WORST_TENSOR_CORES),
                n_groups=0,
            ),
            struct(device, "HashTable", words=self.table, n_slots=self.table.size),
            struct(
                device,
                "Record",
                tolerance=self.tolerance,
                history=self.history,
                n_history=HISTORY,
                control=self.control,
            ),
        )
        return self

    def get(self, name):
        return self.device.download(getattr(self, name))

    def word(self, name):
        return int(self.get("control")[Control[name]])

    def set_words(self, **words):
        control = self.get("control")
        for name, value in words.items():
            control[Control[name]] = value
        self.device.write(self.control, control)

    @property
    def reason(self):
        return Reason(self.word("STOP"))
