"""What Python runs at its start where this folder is on PYTHONPATH: scikit-learn is patched as soon as it is imported.

`gpukmeans.runner` puts the folder there.  The script then runs in an interpreter of its own, without a frame of ours,
and every Python process that it starts (spawned and forkserver workers, those of joblib) is patched like the first.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

TYPE_CHECKING = False  # typing would slow the start of every process
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = os.path.dirname(_FOLDER)


class _Finder:
    """Finds gpukmeans, which may be on no path, and has `sklearn.cluster` patched at the end of its import."""

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder` has it."""
        if name == "gpukmeans":
            file = os.path.join(_PACKAGE, "__init__.py")
            return importlib.util.spec_from_file_location(name, file, submodule_search_locations=[_PACKAGE])
        if name != "sklearn.cluster":
            return None
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not cls)
        spec = next(filter(None, found), None)
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                del loader.exec_module  # from now on that of its class
                execute(module)
                importlib.import_module("gpukmeans.patching").patch_sklearn()

            loader.exec_module = exec_module
        return spec


sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _FOLDER]
if os.environ.get("GPUKMEANS_RUNNER") == sys.prefix:  # not in another environment, whose NumPy may be another one
    sys.meta_path.insert(0, _Finder)

_next = PathFinder.find_spec("sitecustomize")  # that of the installation, which this one hides
if _next is not None and _next.loader is not None:
    sys.modules["sitecustomize"] = importlib.util.module_from_spec(_next)
    _next.loader.exec_module(sys.modules["sitecustomize"])
