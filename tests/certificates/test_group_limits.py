"""Labels stay while the limits of all groups of centers hold, in rational arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpukmeans.certificates.drift import lower_limit, upper_limit
from tests.support.rational_points import dot_score, length, square


@pytest.mark.one_in(2)
@pytest.mark.parametrize("radius", [0.0, 1e-6, 0.3])
@pytest.mark.parametrize("d", [1, 2, 7])
@pytest.mark.parametrize("adversary", [False, True])
def test_labels_stay_while_upper_limits_are_below_lower_ones(adversary, d, radius):
    """Scores err against the bounds, norms are too large; the own center leaves, others approach; or at random."""
    rng = np.random.default_rng(d)
    stayed = changed = 0
    for trial in range(60):
        z, centers = 3 * rng.standard_normal(d), 3 * rng.standard_normal((6, d))
        label = min(range(6), key=lambda j: square(z, centers[j]))
        norm = (math.sqrt(float(np.dot(z, z))) + 1e-12) * (1 + (trial % 3) / 2)
        so_far = rng.uniform(0, 5, 6)  # of the centers; groups are 0..2 and 3..5
        group_so_far = rng.uniform(0, 5, 2)
        scores = [dot_score(z, c) for c in centers]
        upper = upper_limit(scores[label] + (-radius if adversary else 0), radius, norm, so_far[label])
        lowers = [
            lower_limit(
                max(scores[j] for j in group if j != label) + (radius if adversary else 0),
                radius,
                norm,
                group_so_far[g],
            )
            for g, group in enumerate((range(3), range(3, 6)))
        ]
        for _ in range(12):
            targets = z - centers if adversary else rng.standard_normal((6, d))
            if adversary:
                targets[label] *= -1
            steps = targets / (np.linalg.norm(targets, axis=1)[:, None] + 1e-30) * rng.uniform(0, 0.4, (6, 1))
            before, centers = centers, centers + steps
            moved = np.array([length(a, b) * (1 + 1e-14) for a, b in zip(before, centers, strict=True)])
            so_far += moved
            group_so_far += moved[:3].max(), moved[3:].max()
            stays = all(
                upper + so_far[label] < lower - group - 1e-10 for lower, group in zip(lowers, group_so_far, strict=True)
            )
            true = min(range(6), key=lambda j: square(z, centers[j]))
            changed += true != label
            stayed += stays
            assert not stays or true == label
    assert stayed > 5
    assert changed > 20


def test_limits_are_tight_on_a_line():
    """A row at 0, its center at -3, another at 7: they may come nearer by 4 in all, however that is shared."""
    for share in (0.0, 0.25, 1.0):
        upper = upper_limit(dot_score([0.0], [-3.0]), 0.0, 2.0, 11.0) + 11.0 + 4 * share
        lower = lower_limit(dot_score([0.0], [7.0]), 0.0, 2.0, 0.5) - 0.5 - 4 * (1 - share)
        lift = 4.0  # N^2 - |z|^2, one dimension up
        assert upper == pytest.approx(math.sqrt(9 + lift) + 4 * share, rel=1e-14)
        assert lower == pytest.approx(math.sqrt(49 + lift) - 4 * (1 - share), rel=1e-14)
    assert lower_limit(-math.inf, 0.1, 2.0, 3.0) == math.inf
