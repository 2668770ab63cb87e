"""Scripts that `python -m gpukmeans` runs in tests."""

from __future__ import annotations

#: What a script can see of itself, of its interpreter and of what is around it; and what it does when it is over.
FACTS = '''
"""The script's own docstring.

>>> double(4)
8
"""
import atexit, dataclasses, doctest, inspect, json, os, pickle, sys, threading, traceback, typing, warnings
import unittest
import neighbour

limit: int = 3
main = sys.modules["__main__"]


@dataclasses.dataclass
class Found:
    k: int
    names: "typing.Optional[list]" = None


def double(n):
    """
    >>> double(2)
    4
    """
    return 2 * n


class Doubles(unittest.TestCase):
    def test_double(self):
        self.assertEqual(double(1), 2)


def again(value):
    return pickle.loads(pickle.dumps(value))


def late(where):
    found = again(Found(5))
    print(where, type(found) is Found, found, sys.modules["__main__"] is main, double.__globals__ is vars(main))


def importable(name):
    try:
        return bool(__import__(name))
    except ImportError:
        return False


if __name__ == "__main__":
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("mine")
    try:
        double(None)
    except TypeError:
        trace = traceback.format_exc()
    print(json.dumps({
        "name": __name__,
        "file": __file__,
        "doc": __doc__,
        "spec": repr(__spec__),
        "package": repr(__package__),
        "loader": type(__loader__).__name__,
        "cached": repr(globals().get("__cached__")),
        "builtins": type(__builtins__).__name__,
        "annotations": repr(__annotations__),
        "names": sorted(name for name in dir() if name.startswith("__")),
        "is main": vars(main) is globals(),
        "path": sys.path,
        "argv": sys.argv,
        "flags": repr(sys.flags),
        "warnoptions": sys.warnoptions,
        "executable": sys.executable,
        "folder": os.getcwd(),
        "neighbour": neighbour.__file__,
        "decoy": importable("decoy"),
        "doctest": list(doctest.testmod()),
        "unittest": repr(unittest.main(exit=False, argv=["x"]).result),
        "hints": repr(typing.get_type_hints(Found)),
        "source": inspect.getsource(double),
        "stack": traceback.format_stack(),
        "trace": trace,
        "warning": [str(caught[0].message), caught[0].filename, caught[0].lineno],
        "pickle": pickle.dumps(Found(3)).hex(),
        "same class": type(again(Found(3))) is Found,
        "loaded": sorted({name.split(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"sitecustomize"}),
        "stdin": sys.stdin.read(),
        "thread": threading.current_thread().name,
        "encoding": [sys.stdout.encoding, sys.stdout.line_buffering, sys.stdout.write_through],
    }, indent=1))
    atexit.register(late, "atexit")
    done = threading.Event()
    threading.Timer(0.3, late, ["thread after the last line"]).start()
'''

#: Workers of every start method hand back objects of a class of the script.
POOLS = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

@dataclass
class Found:
    k: int
    names: tuple

def work(k):
    return Found(k, (__name__, sys.argv, [path for path in sys.path if path.endswith("startup")]))

def show(how, found):
    print(how, [type(one) is Found for one in found], found)

if __name__ == "__main__":
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            show(method, list(pool.map(work, range(4), timeout=240)))
        with context.Pool(2) as pool:
            show(method, pool.map_async(work, range(4)).get(240))
"""

#: The same with scikit-learn's classes, which must be ours everywhere.
WORKERS = """
import multiprocessing, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from joblib import Parallel, delayed
from sklearn.cluster import KMeans

@dataclass
class Found:
    model: object

def work(k):
    return Found(KMeans(k, random_state=0, n_init=1).fit([[0.0], [1.0], [5.0], [6.0]]))

if __name__ == "__main__":
    import gpukmeans
    assert KMeans is gpukmeans.KMeans
    for method in sorted({"spawn", "forkserver"} & set(multiprocessing.get_all_start_methods())):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
            found = list(pool.map(work, [1, 2], timeout=240))
        assert all(type(one) is Found and type(one.model) is KMeans for one in found), method
    for one in Parallel(n_jobs=2, backend="loky")(delayed(work)(k) for k in (1, 2)):
        assert type(one) is Found and type(one.model) is KMeans
    code = "from sklearn.cluster import KMeans; print(KMeans.__module__)"
    print(subprocess.check_output([sys.executable, "-c", code], text=True))
"""

#: Which classes are ours, from the first import to `unpatch_sklearn`.
CLASSES = """
import sys
assert "gpukmeans" not in sys.modules
import sklearn.cluster, sklearn.preprocessing, gpukmeans
from sklearn.cluster import KMeans
print([name for name in gpukmeans.__all__ if getattr(gpukmeans, name) is getattr(sklearn.cluster, name, None)])
print(gpukmeans.__file__)
print(type(sklearn.cluster.__loader__).__name__, "exec_module" in vars(sklearn.cluster.__loader__))
print(len(gpukmeans.unpatch_sklearn()) >= 5, sklearn.cluster.KMeans.__module__, KMeans.__module__)
"""
