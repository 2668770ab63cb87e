"""What must hold of rows that the screens of many centers have decided, and of those left open."""

from __future__ import annotations

import numpy as np

from gpukmeans.backends.cuda import screen_tiles
from gpukmeans.backends.cuda.screen_tiles import ScoreTile
from gpukmeans.certificates.drift import lower_limit, upper_limit
from tests.support.assertions import assert_labels
from tests.support.launches.many import SMALL, group_members, plain_top_two, values_of
from tests.support.oracles import nearest

RESIDENT, STREAMED = ScoreTile(**SMALL, CHUNK=2), ScoreTile(**SMALL, CHUNK=1, PANEL_STEPS=4)


def check_screen(screen, rows, scores=None):
    """Every listed row ends certified and right, or undecided."""
    scores = screen.plain_scores() if scores is None else scores
    best = plain_top_two(scores)
    labels, undecided = screen.get("labels"), screen.undecided()
    assert len(set(undecided.tolist())) == len(undecided)
    for place, row in enumerate(undecided):
        assert screen.get("best")[place] == best[row][0]
        assert place >= screen.slots or screen.get("counts")[place] == 0
    certain = np.setdiff1d(rows, undecided)
    living = np.setdiff1d(np.arange(screen.k), screen.dead)
    X, C = values_of(screen.X, screen.dtype), screen.C.astype(np.float64)
    assert_labels(labels, X, C, rows=certain, dead=screen.dead, screen=screen.scores)
    for row in certain:
        assert labels[row] == best[row][2]
        assert best[row][0] - best[row][1] > 1.99 * screen.radii[row]
    for row in undecided:
        assert best[row][0] - best[row][1] < 2.01 * screen.radii[row]
    check_limits(screen, scores, certain, living)
    assert np.isnan(screen.get("uppers")[undecided]).all()
    assert (screen.get("lowers")[np.setdiff1d(np.arange(screen.n), certain)] == screen.old_lowers).all()
    screen.check_moves(rows)
    return certain, undecided


def check_limits(screen, scores, rows, living):
    """The limits are on the safe side of the distances to one's own and to other centers, and not far from them."""
    k, labels, every = screen.k, screen.get("labels")[rows], np.arange(len(rows))
    uppers, lowers = (screen.get(name)[rows].astype(np.float64) for name in ("uppers", "lowers"))
    drift, scores, norms = screen.drift.astype(np.float64), scores[rows].astype(np.float64), screen.norms[rows]
    norms = norms.astype(np.float32).astype(np.float64)
    squares = ((screen.z[rows, None] - screen.center_z) ** 2).sum(axis=2)
    distances = np.sqrt(squares + (norms**2 - (screen.z[rows] ** 2).sum(axis=1)).clip(0)[:, None])
    distances[:, np.setdiff1d(np.arange(k), living)] = np.inf
    radii = screen.radii[rows, None] + 2.0**-18 * (norms[:, None] ** 2 + np.where(scores > -np.inf, abs(scores), 0))
    own, own_drift = distances[every, labels], drift[labels]
    assert (own - own_drift <= uppers).all()
    args = scores[every, labels], radii[every, labels], norms, own_drift
    assert (uppers <= np.vectorize(upper_limit)(*args) + 2.0**-18 * (own + own_drift)).all()

    distances[every, labels] = np.inf
    scores[every, labels] = -np.inf
    second = scores.argmax(axis=1)
    for group, members in enumerate(group_members(k, screen.n_groups)):
        so_far = drift[k + group]
        assert (lowers[:, group] <= distances[:, members].min(axis=1, initial=np.inf) + so_far).all()
        if not members:
            continue
        most = np.where(np.isin(labels, members), second, np.array(members)[scores[:, members].argmax(axis=1)])
        args = scores[every, most], radii[every, most], norms, so_far
        assert (lowers[:, group] >= np.vectorize(lower_limit)(*args) * (1 - 2.0**-18)).all()


def check_candidates(screen):
    scores, undecided = screen.plain_scores().astype(np.float64), screen.undecided()
    living = np.setdiff1d(np.arange(screen.k), screen.dead)
    true = living[nearest(values_of(screen.X[undecided], screen.dtype), screen.C[living].astype(np.float64))]
    few = 0
    for place, row in enumerate(undecided):
        found = screen.candidates_of(place)
        gaps = (scores[row].max() - scores[row]) / (2 * screen.radii[row])
        if found is None:
            assert place >= screen.slots or (gaps < 1.01).sum() > screen_tiles.SLOTS
            continue
        few += 1
        assert true[place] in found
        assert set(np.flatnonzero(gaps < 0.99)) <= set(found) <= set(np.flatnonzero(gaps < 1.01))
        assert not set(found) & set(screen.dead)
    return few
