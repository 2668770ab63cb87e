"""Launches of the screens of many centers, and plain Python of what they should return."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gpukmeans.arrays.on_device import BFLOAT16, bfloat16_values, center_dtype
from gpukmeans.backends.cuda import screen_tiles, tuning
from gpukmeans.backends.cuda.control import Control, Fact
from gpukmeans.backends.cuda.device.structs import fields
from gpukmeans.backends.cuda.screen_tiles import ScoreTile
from gpukmeans.certificates.rounding import SQUARE_UNDERFLOW
from gpukmeans.certificates.scores import square_distance_radius
from tests.support.assertions import half_screen
from tests.support.launches.common import filled, launch, scale_words, struct
from tests.support.tensor_cores import tensor_sums

#: Small tiles: every part of them is ragged soon.
SMALL = {"BM": 32, "BN": 32, "WARPS_M": 1, "WARPS_N": 2, "LANE_GROUPS": 2}

#: The arrays of `Screen.on` that are fields of another name.
FIELD_NAMES = {
    ("GroupLimits", "drift_so_far"): "drift",
    ("GroupLimits", "active_rows"): "active",
    ("Moves", "rows"): "moved",
    ("Moves", "old"): "moved_from",
    ("Undecided", "rows"): "undecided",
    **{("Parts", name): f"part_{name}" for name in ("firsts", "seconds", "groups", "tickets")},
}


def values_of(X, dtype):
    """The rows as float64: `X` as stored, bfloat16 as 16-bit integers."""
    return (bfloat16_values(X) if dtype == BFLOAT16 else X).astype(np.float64)


def stored(values, dtype):
    """Values rounded to what a row dtype can hold, as they are stored."""
    if dtype == BFLOAT16:
        return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(values).astype(dtype)


@dataclass
class Screen:
    """Rows and centers as the screens read them; z = x scale + offset, halves h, in float64."""

    device: object
    dtype: np.dtype
    X: np.ndarray
    C: np.ndarray
    dead: tuple[int, ...] = ()
    largest_radius: float = 1.0  # a factor of the radius, 1 for the certified one

    def __post_init__(self):
        (self.n, self.d), self.k = self.X.shape, len(self.C)
        values, whole = values_of(self.X, self.dtype), self.dtype == np.uint8
        self.steps = tuning.n_steps(self.d, self.dtype)
        mean = values.mean(axis=0)
        spread = float(np.abs(values - mean).max()) or 1.0
        self.scale = 1.0 if whole else 2.0 ** (8 - math.frexp(spread)[1])
        self.offset = (-np.rint(mean) if whole else -mean * self.scale).astype(np.float32)
        self.z, self.h = self._halves(values)
        self.center_z, self.center_h = self._halves(self.C.astype(np.float64))
        length = np.linalg.norm
        rests, center_rests = length(self.z - self.h, axis=1), length(self.center_z - self.center_h, axis=1)
        self.norms = (length(self.z, axis=1) + rests) * (1 + 1e-6) + 1e-30
        self.rests = rests * (1 + 1e-6)
        self.starts = np.full(
            -(-self.k // screen_tiles.CENTER_PADDING) * screen_tiles.CENTER_PADDING, -np.inf, np.float32
        )
        self.starts[: self.k] = -(self.center_z**2).sum(axis=1) / 2
        self.starts[list(self.dead)] = -np.inf
        largest = length(self.center_z, axis=1).max() + center_rests.max()
        alpha = 2.0**-23 * (1.5 * 16 * self.steps + 8)
        facts = np.zeros(len(Fact), np.float32)
        facts[Fact.PER_REST] = largest * (1 + 1e-5)
        facts[Fact.PER_NORM] = (center_rests.max() + alpha * largest) * (1 + 1e-5)
        facts[Fact.CONSTANT] = (alpha + 2.0**-24) * largest**2 * (1 + 1e-5) + 1e-30
        self.facts = facts * np.float32(self.largest_radius)

    def _halves(self, values):
        z = values * self.scale + self.offset.astype(np.float64)
        with np.errstate(over="ignore"):  # in tests of overflow
            return z, z.astype(np.float32).astype(np.float16).astype(np.float64)

    @property
    def scores(self):
        """The scores and their radii, for `assert_labels`."""
        return half_screen(self.z, self.center_z, self.radii)

    @property
    def radii(self):
        """Bounds of the error of a score, in float64, and a little more."""
        rest, norm, constant = (float(self.facts[f]) for f in (Fact.PER_REST, Fact.PER_NORM, Fact.CONSTANT))
        return (self.rests * rest + self.norms * norm + constant) * (1 + 1e-6)

    def columns(self):
        """(steps, 16) the column of each product of a step, in the order in which tensor cores add."""
        run = tuning.run_length(self.dtype)
        order = [(t, e) for first in (0, 2) for t in range(4) for e in (first, first + 1)]
        per_run = run // 4
        return [[s // per_run * 4 * run + t * run + s % per_run * 4 + e for t, e in order] for s in range(self.steps)]

    def plain_scores(self):
        """(n, k) float32: sums of products of halves, step by step, as the device's tensor cores add."""
        width = 16 * self.steps
        h, g = (np.pad(a, ((0, 0), (0, width - self.d))) for a in (self.h, self.center_h))
        scores = np.broadcast_to(self.starts[: self.k], (self.n, self.k))
        for step in self.columns():
            scores = tensor_sums(self.device.launch.tensor_cores, scores, h[:, step], g[:, step])
        return scores

    def half_centers(self):
        """In the layout that kernels/screen.cuh describes, written out number by number."""
        run, tiles = tuning.run_length(self.dtype), -(-self.k // 8)
        halves = np.zeros((tiles, self.steps, 32, 4), np.uint16)
        bits = self.center_h.astype(np.float16).view(np.uint16)
        for f in range(self.d):
            group, t, within = f // (4 * run), f % (4 * run) // run, f % run
            step = group * (run // 4) + within // 4
            for j in range(self.k):
                halves[j // 8, step, j % 8 * 4 + t, within % 4] = bits[j, f]
        return halves

    # ---- launches ---------------------------------------------------------------------------------------------------

    def upload(self, labels=None, drift=None, uppers=None, lowers=None, slots=None, n_groups=None):
        """Copy the arrays of the launches to the device; `drift` is that of the centers, and then of the groups."""
        self.n_groups = n_groups or ScoreTile(**SMALL, CHUNK=1).n_groups
        up, n = self.device.upload, self.n
        rng = np.random.default_rng(5)
        self.old = rng.integers(-1, self.k, n).astype(np.int32) if labels is None else labels
        self.drift = rng.uniform(0, 3, self.k + self.n_groups).astype(np.float32) if drift is None else drift
        offsets = np.zeros(16 * self.steps, np.float32)
        offsets[: self.d] = self.offset
        self.old_lowers = np.float32(7e7)
        self.slots = max(1, n // 2) if slots is None else slots
        self.on = {
            "X": up(self.X),
            "C": up(self.C),
            "offsets": up(offsets),
            "scales": up(scale_words(self.scale)),
            "drift": up(self.drift),
            "facts": up(self.facts),
            "norms": up(self.norms.astype(np.float32)),
            "rests": up(self.rests.astype(np.float32)),
            "half_centers": up(self.half_centers()),
            "half_squares": up(self.starts),
            "labels": up(self.old),
            "uppers": up(np.full(n, np.nan, np.float32) if uppers is None else uppers),
            "lowers": up(np.full((n, self.n_groups), self.old_lowers) if lowers is None else lowers),
            **{name: self.device.empty(n, np.int32) for name in ("moved", "moved_from", "active", "undecided", "open")},
            "best": self.device.empty(n, np.float32),
            "candidates": self.device.empty((self.slots, screen_tiles.SLOTS), np.int32),
            "counts": self.device.empty(self.slots, np.int32),
            "control": filled(self.device, len(Control), np.int32),
            "part_firsts": filled(self.device, 2048, np.uint64),
            "part_seconds": filled(self.device, 2048, np.uint32),
            "part_groups": filled(self.device, 2048 * 16, np.uint32),
            "part_tickets": filled(self.device, 64, np.int32),
        }
        return self

    def get(self, name):
        return self.device.download(self.on[name])

    def count(self, word):
        return int(self.get("control")[word])

    def set_count(self, word, value):
        self.device.write(self.on["control"][word : word + 1], np.full(1, value, np.int32))

    @property
    def vector(self):
        return tuning.is_vector(self.dtype, self.d, True)

    def _struct(self, name, **numbers):
        """The struct of this name; its arrays are those of `on`."""
        on, values = self.on, {}
        for field in fields(name):
            other = FIELD_NAMES.get((name, field.name), field.name)
            values[field.name] = numbers[field.name] if field.name in numbers else on[other]
        return struct(self.device, name, {"ROW": self.X.dtype, "CENTER": self.C.dtype}, **values)

    def _operands(self):
        return self._struct("Operands", d=self.d, n_steps=self.steps)

    def _undecided(self):
        return self._struct("Undecided", n_slots=self.slots)

    def skip(self):
        on, grid = self.on, -(-self.n // screen_tiles.SKIP_ROWS)
        args = (on["labels"], np.int32(self.n), np.int32(self.k), self._struct("GroupLimits"), on["control"])
        constants = screen_tiles.skip_constants(self.n_groups)
        launch(self.device, "skip_rows", constants, grid, screen_tiles.SKIP_THREADS, *args)

    def list_rows(self, rows):
        """List these rows as active, in place of `skip`."""
        self.device.write(self.on["active"][: len(rows)], np.asarray(rows, np.int32))
        self.set_count(Control.N_ACTIVE, len(rows))

    def screen(self, tile, *, exact=True, grid=3):
        on = self.on
        assert tile.n_groups == self.n_groups
        launch(
            self.device,
            "nearest_of_many",
            tile.constants(self.dtype, self.vector),
            grid,
            tile.threads,
            *(self._operands(), self._struct("Centers", k=self.k), self._struct("GroupLimits"), np.int32(exact)),
            *(self._struct("Moves"), self._undecided(), on["best"], self._struct("Parts")),
            shared_mem=tile.shared_bytes(self.steps),
        )
        assert not any(self.get(f"part_{name}").any() for name in ("firsts", "seconds", "groups", "tickets"))

    def collect(self, tile=None, *, grid=5):
        on, tile = self.on, tile or screen_tiles.candidate_tile(self.dtype)
        launch(
            self.device,
            "candidates",
            {**tile.constants(self.dtype, self.vector), "SLOTS": screen_tiles.SLOTS},
            grid,
            tile.threads,
            *(self._operands(), self._struct("Centers", k=self.k), self._undecided()),
            *(on["best"], on["candidates"], on["control"]),
            shared_mem=tile.shared_bytes(self.steps),
        )

    def resolve(self, radius=None):
        on, radius = self.on, square_distance_radius(self.d) if radius is None else radius
        launch(
            self.device,
            "resolve",
            screen_tiles.resolve_constants(self.dtype),
            3,
            128,
            *(on["X"], np.int32(self.d), self._struct("Centers", k=self.k)),
            self._struct("StoredCenters", radius=radius, underflow=SQUARE_UNDERFLOW),
            *(self._undecided(), on["candidates"], self._struct("Moves"), on["open"]),
        )

    # ---- outcomes ---------------------------------------------------------------------------------------------------

    def undecided(self):
        """Rows, in the list's order."""
        return self.get("undecided")[: self.count(Control.N_UNDECIDED)]

    def candidates_of(self, place):
        """The row's candidates, or None: all centers."""
        if place >= self.slots:
            return None
        count = int(self.get("counts")[place])
        return sorted(self.get("candidates")[place, :count].tolist()) if 0 < count <= screen_tiles.SLOTS else None

    def check_moves(self, looked_at):
        """Rows are listed as moved exactly if their label is new."""
        labels, n_moved = self.get("labels"), self.count(Control.N_MOVED)
        moved = self.get("moved")[:n_moved]
        assert np.array_equal(np.sort(moved), np.flatnonzero(labels != self.old))
        assert np.array_equal(self.get("moved_from")[:n_moved], self.old[moved])
        others = np.setdiff1d(np.arange(self.n), looked_at)
        assert np.array_equal(labels[others], self.old[others])


def problem(device, n, k, d, dtype, seed=0, **options):
    """Clouds about the centers, with some rows nearly between two of them."""
    rng = np.random.default_rng(seed)
    wide = dtype == np.uint8
    C = rng.uniform(20, 235, (k, d)) if wide else rng.standard_normal((k, d))
    own = rng.integers(0, k, n)
    near = rng.integers(0, k, n)
    between = rng.random(n) < 0.3
    share = np.where(between, rng.uniform(0.4999, 0.5001, n), rng.uniform(0, 0.3, n))[:, None]
    noise = rng.standard_normal((n, d)) * np.where(between, 1e-5, 3.0 if wide else 0.05)[:, None]
    values = C[own] * (1 - share) + C[near] * share + noise
    X = stored(np.clip(np.rint(values), 0, 255) if wide else values, dtype)
    return Screen(device, dtype, X, C.astype(center_dtype(dtype)), **options)


def plain_top_two(scores):
    """Per row (best, second, index): the two largest of different centers, the lowest index of equal ones."""
    found = []
    for row in scores.tolist():
        index = max(range(len(row)), key=lambda j: (row[j], -j))
        others = [value for j, value in enumerate(row) if j != index]
        found.append((row[index], max(others, default=-math.inf), index))
    return found


def group_members(k, n_groups):
    """The centers of each group: pairs of centers go to the groups in turn."""
    members = [[] for _ in range(n_groups)]
    for place, j in enumerate(range(0, k, 2)):
        members[place % n_groups] += [j, j + 1] if j + 1 < k else [j]
    return members
