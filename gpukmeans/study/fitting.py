"""The fit of a study, and its checkpoint, which knows the options: `gpukmeans resume` needs the file alone."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from gpukmeans.study.options import Options
from gpukmeans.study.progress import Progress

#: What a path begins with that names rows of `gpukmeans.datasets.make_infinite_mnist`, before their number.
INFINITE = "infinite-mnist:"


def fitted(options: Options, X: Any, progress: Progress, seed: int | None = None) -> Any:
    """The model of rows in memory, or that stream; one that keeps a checkpoint or goes on from it, if so requested."""
    import gpukmeans
    from gpukmeans.estimators.resuming import go_on
    from gpukmeans.scale.checkpoints import Checkpoint, new_checkpoint

    parameters = options.parameters() | ({} if seed is None else {"random_state": seed})
    parameters["progress"] = progress.iteration
    if options.resumes:
        assert options.checkpoint is not None
        model = go_on(Checkpoint.read(options.checkpoint), X, None, options.backend, progress.iteration)
    elif options.checkpoint is None:
        model = gpukmeans.fit(X, options.clusters, **parameters)
    else:
        with new_checkpoint(options.checkpoint, 10, note_of(options)):
            model = gpukmeans.fit(X, options.clusters, **parameters)
    return model.set_params(progress=False)  # what draws it cannot be saved


def check_checkpoint(options: Options) -> None:
    """Find out before the rows are read what would spoil a new checkpoint.

    Raises
    ------
    ValueError, OSError
    """
    from gpukmeans.scale.checkpoints import Checkpoint

    if options.checkpoint is None or options.resumes:
        return
    if options.seeds > 1:
        raise ValueError("--checkpoint keeps one fit, and --seeds makes several; leave out one of them")
    Checkpoint(options.checkpoint.absolute(), 1).refuse_to_replace()


def note_of(options: Options) -> dict[str, Any]:
    """The options as JSON, with paths that hold in any folder."""
    note = {field.name: getattr(options, field.name) for field in fields(options)}
    del note["checkpoint"], note["resumes"]
    path = str(options.path)
    return note | {
        "path": path if path.startswith(INFINITE) else str(options.path.absolute()),
        "out": str(options.folder.absolute()),
    }


def options_of(path: Path, backend: str | None, scheduler: str | None = None) -> Options:
    """The options of a checkpoint that `gpukmeans fit` keeps, with others that are given.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no checkpoint, or none of the command line.
    """
    from gpukmeans.scale.checkpoints import Checkpoint, wrong_state

    note = Checkpoint.read(path.absolute()).note
    if note is None:
        raise ValueError(
            f"{path}: kept from Python, so that it knows no path of its rows; gpukmeans.resume(path, X) goes on with it"
        )
    known = {field.name for field in fields(Options) if field.name not in ("checkpoint", "resumes")}
    if not isinstance(note, dict) or set(note) != known:
        raise wrong_state(path, ValueError("options"))
    defaults = {field.name: field.default for field in fields(Options) if field.default is not MISSING}
    for name, value in note.items():
        kept = defaults.get(name)
        if isinstance(kept, bool | int | float) and type(value) is not type(kept):
            raise wrong_state(path, ValueError(name))
    if note["image_size"] is not None:
        note["image_size"] = tuple(note["image_size"])
    found = Options(**note | {"path": Path(note["path"]), "out": Path(note["out"])})
    found = replace(found, backend=backend or found.backend, scheduler=scheduler or found.scheduler)
    return replace(found, checkpoint=path.absolute(), resumes=True)
