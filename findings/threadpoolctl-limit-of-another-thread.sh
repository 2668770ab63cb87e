#!/usr/bin/env bash
# threadpoolctl: once one thread has limited OpenBLAS by a plain call, limits set by other threads do nothing, silently.
#
# Versions: threadpoolctl 3.8.0 (3.7.0 for comparison), NumPy 2.4.6 with the OpenBLAS of its wheel.
# Behaviour: since 3.8 the first thread that sets a limit controls OpenBLAS until it ends or leaves its last `with` block.
#   `threadpool_limits(2)` as a call, which the documentation offers for a whole program, has no such end: from then on
#   `with threadpool_limits(1):` in any other thread changes nothing and says nothing.  In 3.7 it limits the process.
# Output seen: after threadpool_limits(2) in the first thread, `with threadpool_limits(1)` in another has 1 thread with 3.7.0
#   and 2 with 3.8.0; without the call before, 1 with both.
# Why a good guess is wrong: the limit is documented as that of the process, the same line works in the first thread and in a
#   thread pool that nobody set a limit before, and a context manager that cannot do its work is expected to raise.
# Why it matters here: who runs BLAS in threads of its own limits BLAS to one thread meanwhile.  In a web server, whose
#   handlers are other threads, the limit was lost, and a fit of MNIST took minutes instead of seconds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/limits.py" <<'PYTHON'
import sys
import threading

import numpy as np  # noqa: F401 -- loads OpenBLAS
import threadpoolctl


def in_another_thread():
    """The threads of OpenBLAS within a limit of one, set by a thread that is not the first."""
    found = []

    def look():
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            found.extend(library["num_threads"] for library in threadpoolctl.threadpool_info())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found


before = in_another_thread()
threadpoolctl.threadpool_limits(2, user_api="blas")
after = in_another_thread()
print(f"threadpoolctl {threadpoolctl.__version__}: {before} without, {after} after a limit of 2 in the first thread")
assert before == [1]
assert after == [int(sys.argv[1])]
PYTHON
for version in 3.7.0 3.8.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q 'numpy==2.4.6' "threadpoolctl==$version" || exit 1
  OPENBLAS_NUM_THREADS=2 "$folder/$version/bin/python" "$folder/limits.py" "$([[ $version == 3.7.0 ]] && echo 1 || echo 2)"
done
