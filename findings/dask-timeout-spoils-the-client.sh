#!/usr/bin/env bash
# Dask: after a `Future.result(timeout=...)` that runs out, a client may fetch no result any more, of any future.
#
# Versions: Dask and distributed 2026.8.0, Python 3.11, Linux.
# Behaviour: a client fetches results in five transfers at a time.  A sixth waits for its turn, and a timeout cancels it there;
#   the client keeps the cancelled transfer as the one that is to come, and every later result is to travel with it: `result()`
#   and `gather` raise UnboundLocalError (seen in dask/distributed #8514), with or without a timeout, as long as it lives.
# Output seen: TimeoutError as asked for, then, once the five others have arrived, UnboundLocalError three times.
# Why a good guess is wrong: a timeout says how long to wait, and the same call a moment later should return the result; no
#   other future has anything to do with it.
# Why it matters here: to look every second whether workers are alive, `result(timeout=1)` was called again and again; on a
#   slow machine the cancelled transfer hung a fit.  Transfers are begun by `gather(asynchronous=True)` and left to end.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'dask==2026.8.0' 'distributed==2026.8.0'
cat > "$folder/slow.py" <<'PYTHON'
import threading
import time

from distributed import Client, LocalCluster, wait


class Slow:
    """A result that takes a second to be sent."""

    def __getstate__(self):
        time.sleep(1.0)
        return {}


if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        slow = [client.submit(Slow, pure=False) for _ in range(5)]
        small = client.submit(int, 7)
        wait([*slow, small])
        threads = [threading.Thread(target=future.result) for future in slow]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        try:
            small.result(timeout=0.5)
        except TimeoutError:
            print("TimeoutError, while five others travel")
        for thread in threads:
            thread.join()
        failed = 0
        for future, timeout in ((small, 10), (client.submit(int, 8), 10), (client.submit(int, 9), None)):
            try:
                print(future.result(timeout=timeout))
            except UnboundLocalError as error:
                failed += 1
                print("UnboundLocalError:", error)
        assert failed == 3
PYTHON
cd "$folder"
"$folder/venv/bin/python" slow.py 2> "$folder/log" || { tail -20 "$folder/log"; exit 1; }
