"""A whole backend in one small file, over the arithmetic of `gpukmeans.exact`: a model to start another one from."""

from __future__ import annotations

import math

import numpy as np

from gpukmeans.backends import Assigned, Updated
from gpukmeans.backends.defaults import BackendDefaults, RowsDefaults, RunDefaults, SeedingDefaults
from gpukmeans.certificates.rounding import SLACK, SQUARE_UNDERFLOW, UNIT64, gamma
from gpukmeans.exact.sums import Grid, cluster_means, exact_total, exact_totals_by_label, weight_grid, weighted_rows
from gpukmeans.exact.tie_break import exact_squares, first_of_equal_rows, largest_integer, resolve
from gpukmeans.exact.warp_order import center_shift_square, farthest_rows, row_square_distances


class ToyBackend(BackendDefaults):
    name = "toy"

    def load(self, X, sample_weight=None, *, sums=True):
        return ToyRows(X, sample_weight, Grid.for_rows(X, sample_weight) if sums else None)

    def checks_values(self, dtype):
        return False  # the caller checks all values

    def describe(self):
        return "a toy"


class ToyRows(RowsDefaults):
    def __init__(self, X, sample_weight, grid):
        self.X, self.sample_weight, self.grid = X, sample_weight, grid
        self.n_samples, self.n_features = X.shape
        self.center_dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)

    def start(self, centers, *, precision="exact"):
        return ToyRun(self, np.array(centers, self.center_dtype))  # exact all the same

    def seeding(self):
        return ToySeeding(self)

    def take(self, indices):
        return self.X[indices]

    def unweighted(self):
        return ToyRows(self.X, None, Grid.for_rows(self.X))

    def subset(self, indices, sample_weight=None, *, sums=True):
        return ToyBackend().load(self.X[indices], sample_weight, sums=sums)


class ToyRun(RunDefaults):
    def __init__(self, rows, centers):
        self._rows, self._centers, self._assigned = rows, centers, centers
        self._labels = np.full(rows.n_samples, -1, np.int32)

    def assign(self, *, move=True):
        X, centers, before = self._rows.X, self._centers, self._labels
        self._assigned = centers
        alive = np.flatnonzero(first_of_equal_rows(centers) == np.arange(len(centers)))
        self._labels, n_exact = resolve(X, centers, alive, exact_squares(largest_integer(X), centers))
        return Assigned(int((self._labels != before).sum()), 0, len(X) - n_exact, n_exact)

    def update(self):
        rows, (sums, weights) = self._rows, self.sums()
        self._weights = weight_grid(rows.n_samples, rows.sample_weight).value(weights[:, :, None])[:, 0]
        before, self._centers = self._centers, cluster_means(sums, self._weights, rows.grid, rows.center_dtype)
        return Updated(self._weights, center_shift_square(self._centers, before))

    def sums(self):
        rows = self._rows
        weights = np.ones(rows.n_samples) if rows.sample_weight is None else rows.sample_weight
        sums = self._added(rows.grid, weighted_rows(rows.X, rows.sample_weight, slice(None)))
        return sums, self._added(weight_grid(rows.n_samples, rows.sample_weight), weights[:, None])[:, :, 0]

    def _added(self, grid, values):
        total = np.zeros((grid.n_limbs, len(self._centers), values.shape[1]), np.int64)
        for sums, limb in zip(total, grid.limbs(values), strict=True):
            np.add.at(sums, self._labels, limb.astype(np.int64))
        return total

    def weights(self):
        return self._weights

    def centers(self):
        return self._centers

    def assigned_centers(self):
        return self._assigned

    def set_centers(self, centers):
        self._centers = np.array(centers, self._rows.center_dtype)

    def labels(self):
        return self._labels.copy()

    def farthest(self, count):
        return farthest_rows(self._distances(self._assigned), count)

    def inertia(self):
        return exact_total(self._terms())

    def inertias(self):
        return exact_totals_by_label(self._terms(), self._labels, len(self._centers))

    def _terms(self):
        distances = self._distances(self._centers)
        return distances if self._rows.sample_weight is None else distances * self._rows.sample_weight

    def _distances(self, centers):
        return row_square_distances(self._rows.X, slice(None), centers[self._labels].astype(np.float64))


class ToySeeding(SeedingDefaults):
    block_size = 1

    def __init__(self, rows):
        self._X = rows.X.astype(np.float64)
        self._weight = np.ones(rows.n_samples) if rows.sample_weight is None else rows.sample_weight
        self._closest = np.full(rows.n_samples, np.inf)

    def _with(self, index):
        return np.minimum(self._closest, ((self._X - self._X[index]) ** 2).sum(axis=1))

    def terms(self, closest=None):
        """A term is d + 4 roundings away from its value, and underflow may take from each square."""
        terms = self._weight * (self._closest if closest is None else closest)
        return terms, SLACK * gamma(self._X.shape[1] + 4.0, UNIT64) * terms + self._weight * SQUARE_UNDERFLOW

    def add(self, indices):
        for index in indices:
            self._closest = self._with(index)
        return self.terms()

    def propose(self, candidates):
        self._proposed = [self._with(index) for index in candidates]
        return self.refine(range(len(candidates)))

    def refine(self, indices):
        found = [[math.fsum(values) for values in self.terms(self._proposed[i])] for i in indices]
        totals, errors = np.array(found).T
        return totals, SLACK * (errors + UNIT64 * totals)

    def accept(self, index):
        self._closest = self._proposed[index]
        return self.terms()

    def block(self, block):
        return tuple(values[block : block + 1] for values in self.terms())
