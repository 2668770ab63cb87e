"""Centers in fixed point, in plain Python: kernels/limbs.cuh."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

LARGEST = 8355711


def fixed(z):
    """A rational number in units of 2**-14, rounded to even; cut where three bytes end."""
    return max(-LARGEST, min(LARGEST, round(Fraction(z) * 2**14)))


def start_of(z, q, offset):
    """What the scores of a center start from, in units."""
    return round(sum(int(o) * u for o, u in zip(offset, q, strict=True)) - sum(v * v for v in z) * 2**13)


def signed_bytes(q):
    """hi, mid, lo."""
    found = []
    for _ in range(3):
        low = (q + 128) % 256 - 128
        found.append(low)
        q = (q - low) // 256
    return found[::-1]


def laid_out(q):
    """The limbs of whole numbers (k, d) where a lane finds them: [group, step, tile, lane, byte]."""
    k, d = len(q), len(q[0])
    places = np.zeros((-(-d // 64), 2, 3, 32, 16), np.int8)
    for group, step, tile, lane, byte in np.ndindex(places.shape):
        register, along = divmod(byte, 4)
        f = 64 * group + 16 * (lane % 4) + 8 * step + 4 * (register // 2) + along
        row = lane // 4 + 8 * (register % 2)  # of the tile
        center, limb = (8 * tile + row % 8, row // 8) if tile < 2 else (row, 2)
        if center < k and f < d:
            places[group, step, tile, lane, byte] = signed_bytes(q[center][f])[limb]
    return places
