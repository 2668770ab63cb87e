#!/usr/bin/env bash
# Dask: Ctrl-C in a terminal ends the workers of a LocalCluster for good, though a nanny replaces killed ones.
#
# Versions: Dask and distributed 2026.8.0, Python 3.11, Linux.
# Behaviour: a terminal (and Jupyter's "interrupt") sends SIGINT to all processes of its group.  The workers of a
#   LocalCluster are in it and do not ignore it: they close, their nannies take this for a wish and close as well, and the
#   client of the interrupted session has a cluster without workers.  What is submitted next waits without end or message.
# Output seen: after SIGKILL of both workers a task runs, on two new ones; after SIGINT to the group there is no worker 10 s
#   later.
# Why a good guess is wrong: nannies are there to replace workers that end, and do so after SIGKILL; Ctrl-C is how one stops
#   what this process waits for, and nothing was asked of the cluster.
# Why it matters here: whoever stops a long fit by Ctrl-C and goes on in the same session waits: make a new cluster, or start
#   workers from another terminal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'dask==2026.8.0' 'distributed==2026.8.0'
cat > "$folder/interrupt.py" <<'PYTHON'
import os
import signal
import time

from distributed import Client, LocalCluster


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if this runs in the background of a shell
    os.setpgid(0, 0)  # a group of its own, as a terminal gives to each command
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        for pid in client.run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)
        time.sleep(5)
        client.wait_for_workers(2, timeout=60)
        print("after SIGKILL:", len(client.nthreads()), "workers, task:", client.submit(abs, -1).result(timeout=60))
        try:
            os.killpg(0, signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            pass
        time.sleep(10)
        left = len(client.nthreads())
        print("after SIGINT to the group:", left, "workers")
        assert left == 0
PYTHON
cd "$folder"
"$folder/venv/bin/python" interrupt.py 2> "$folder/log" || { tail -20 "$folder/log"; exit 1; }
