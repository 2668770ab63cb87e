"""What Python runs at its start where this folder is on PYTHONPATH: scikit-learn is patched as soon as it is imported.

`gpukmeans.runner` puts the folder there.  The script then runs in an interpreter of its own, without a frame of ours,
and every Python process that it starts (spawned and forkserver workers, those of joblib) is patched like the first.
"""

# mypy: allow-untyped-defs
# No annotations, and no typing: every Python that a script starts reads this, also an older one.

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = os.path.dirname(_FOLDER)


class _Finder:
    """Finds gpukmeans, which may be on no path, and has `sklearn.cluster` patched at the end of its import."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """As `importlib.abc.MetaPathFinder` has it."""
        if name == "gpukmeans":
            file = os.path.join(_PACKAGE, "__init__.py")
            return importlib.util.spec_from_file_location(name, file, submodule_search_locations=[_PACKAGE])
        if name != "sklearn.cluster":
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not cls)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            _patch_after(spec.loader)
        return spec


def _patch_after(loader):
    """Have scikit-learn patched once a module's code has run."""
    execute = loader.exec_module

    def exec_module(module):
        del loader.exec_module  # from now on that of its class
        execute(module)
        importlib.import_module("gpukmeans.patching").patch_sklearn()

    loader.exec_module = exec_module


sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _FOLDER]
if os.environ.get("GPUKMEANS_RUNNER") == sys.prefix:  # not in another environment, whose NumPy may be another one
    sys.meta_path.insert(0, _Finder)

_next = PathFinder.find_spec("sitecustomize")  # that of the installation, which this one hides
if _next is not None and _next.loader is not None:
    sys.modules["sitecustomize"] = importlib.util.module_from_spec(_next)
    _next.loader.exec_module(sys.modules["sitecustomize"])
