"""Results of benchmarks that nobody ran, for tests of tables and runs."""

from bench import results


def entry(workload, system, seconds, *, ours=False, **extra):
    shared = {"ours": ours, "title": f"the work {workload}", "n_iter": 53, "wrong_labels": 0, "inertia": 100.0}
    return results.benchmark(workload, system, seconds, shared | extra)


def document(suite, benchmarks, when="2026-01-02T03:04:05+00:00", **more):
    return {
        "suite": suite,
        "datetime": when,
        "command": f"python -m bench.run {suite} --out bench/results/x.json",
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "machine_info": {
            "cpu": {"brand_raw": "A Processor"},
            "cores_used": 2,
            "python_version": "3.12.3",
            "thread_pools": [{"user_api": "blas", "internal_api": "openblas", "version": "0.3", "num_threads": 2}],
            "versions": {"numpy": "2.4.6"},
            "gpu": {"name": "A GPU", "driver": "1.2"} if suite == "gpu" else None,
        },
        "benchmarks": benchmarks,
        "skipped": [],
    } | more
