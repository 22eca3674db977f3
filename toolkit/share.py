"""Where the things lie that come with the package but are no code: the notebooks and the data, and the store to show by default.

A checkout has them at its root; a wheel carries them inside the package. Reading what lies there is others' work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from toolkit.errors import ReportError, UnavailableError, UsageError
from toolkit.markup import visible

__all__ = ["data", "default_store", "is_reference_store", "named_store", "notebooks", "plan_file", "reference_store"]

_PACKAGE = Path(__file__).resolve().parent


def notebooks() -> Path:
    """The folder of notebooks.

    Raises
    ------
    UnavailableError
        If this installation has none.

    Examples
    --------
    >>> notebooks().name
    'notebooks'
    """
    return _folder("notebooks", "*.ipynb")


def data() -> Path:
    """The folder of data: ``published/`` figures from the literature and ``reference/``, a store the toolkit recorded.

    Raises
    ------
    UnavailableError
        If this installation has none.

    Examples
    --------
    >>> data().name
    'data'
    """
    return _folder("data", "README.md")


def plan_file(named: str) -> Path:
    """A plan of boots: a file, or one that comes with the toolkit by its name.

    Raises
    ------
    UsageError
        If there is neither; it lists those that come with the toolkit.

    Examples
    --------
    >>> plan_file("reference").name
    'reference.toml'
    """
    plans = {path.stem: path for path in sorted((data() / "plans").glob("*.toml"))}
    found = plans.get(named, Path(named))
    try:
        there = found.is_file()
    except OSError:  # a name that is too long, a folder that may not be looked into
        there = False
    if not there:
        raise UsageError(f"there is no plan {visible(named)}", f"Give a file in TOML, or one of: {', '.join(plans)}.")
    return found


def reference_store() -> Path:
    """The store that comes with the toolkit: something to look at before anything was measured here."""
    return data() / "reference"


def is_reference_store(path: Path) -> bool:
    """Whether a path is the store that comes with the toolkit: what it holds was not measured on this machine."""
    try:
        return path.resolve() == reference_store().resolve()
    except UnavailableError:
        return False


def default_store(environ: Mapping[str, str] = os.environ, here: Path | None = None) -> Path:
    """The store that is meant when nobody names one.

    It is the one that ``TOOLKIT_STORE`` names, else ``store`` in the working directory if it is there, else the reference store.

    Examples
    --------
    >>> str(default_store({"TOOLKIT_STORE": "/srv/measured"}))
    '/srv/measured'
    """
    named = environ.get("TOOLKIT_STORE")
    if named:
        return Path(named)
    local = (here or Path.cwd()) / "store"
    return local if local.is_dir() else reference_store()


def named_store(store: str | os.PathLike[str] | None) -> Path:
    """The store that somebody named, else the one that is meant by default: its folder, which is there.

    Raises
    ------
    ReportError
        If there is no such folder, or this user may not look at it.
    """
    path = default_store() if store is None else Path(store)
    try:
        there = path.is_dir()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ReportError(f"the store {visible(path)} cannot be looked at: {why}", "Name another one with --store.") from error
    if not there:
        raise ReportError(f"there is no store {visible(path)}", "Measure something first, or name the store with --store.")
    return path


def _folder(name: str, mark: str) -> Path:
    # A folder counts only with its own content in it: a package installed beside somebody's folder "data" must not find that one.
    for folder in (_PACKAGE / "_share" / name, _PACKAGE.parent / name):
        if folder.is_dir() and any(folder.glob(mark)) and (folder.parent.name == "_share" or _checkout()):
            return folder
    raise UnavailableError(
        f"this installation of virt-toolkit has no folder of {name}",
        "Install it again from its wheel or its source: both carry that folder.",
    )


def _checkout() -> bool:
    return (_PACKAGE.parent / "pyproject.toml").is_file()
