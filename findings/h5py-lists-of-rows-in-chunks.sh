#!/usr/bin/env bash
# h5py: reading a list of rows of a chunked dataset takes longer than a Python loop over the rows, and than reading all rows.
#
# Versions: h5py 3.16.0 (HDF5 as its wheel brings it), NumPy 2.4.6.
# Behaviour: `dataset[indices]` and `dataset[mask]` are one selection of many pieces in HDF5.  In a contiguous dataset this is
#   several times as fast as a read for each row; in a chunked one, without compression and with all chunks in the page cache,
#   it takes a multiple of the loop's time, and one of what reading everything and picking the rows takes.
# Output seen (CPU time, 2,000 sorted rows of 20,000 x 784 uint8): contiguous: list 4.6 ms, loop 16 ms, all rows 5.5 ms; chunks
#   of 1,024 rows: list 75 ms, loop 21 ms, all rows 9 ms.
# Why a good guess is wrong: one call in place of 2,000 saves their cost in every array library, here too as long as the
#   dataset has no chunks, and a tenth of the rows is less than all of them.
# Why it matters here: rows that may have changed their cluster are few, and reading just these from a file looks as if it
#   saved time.  In chunked HDF5 it does not: whole blocks are read there, and rows are picked in memory.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'numpy==2.4.6' 'h5py==3.16.0'
"$folder/venv/bin/python" - "$folder/rows.h5" <<'PYTHON'
import sys
import time

import h5py
import numpy as np

rng = np.random.default_rng(0)
rows = rng.integers(0, 256, (20_000, 784), dtype=np.uint8)
chosen = np.sort(rng.choice(len(rows), 2_000, replace=False))


def seconds(read):
    """The least CPU time of seven reads, each of the right rows."""
    times = []
    for _ in range(7):
        start = time.process_time()
        found = read()
        times.append(time.process_time() - start)
        assert np.array_equal(found, rows[chosen])
    return min(times)


with h5py.File(sys.argv[1], "w") as file:
    file["contiguous"] = rows
    file.create_dataset("chunked", data=rows, chunks=(1024, 784))
ratios = {}
with h5py.File(sys.argv[1]) as file:
    for name, dataset in file.items():
        by_list = seconds(lambda: dataset[chosen])
        loop = seconds(lambda: np.stack([dataset[row] for row in chosen]))
        whole = seconds(lambda: dataset[:][chosen])
        print(f"{name:10}: list {by_list * 1e3:5.1f} ms, loop {loop * 1e3:5.1f} ms, all rows {whole * 1e3:5.1f} ms")
        ratios[name] = by_list / loop, by_list / whole
assert ratios["contiguous"][0] < 0.7
assert ratios["chunked"][0] > 1.5 and ratios["chunked"][1] > 2
PYTHON
