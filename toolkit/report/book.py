"""Makes a report: runs the notebooks two at a time, writes a page for each and the first page, and says what could not be made.

A page is written beside its place and renamed into it, so that it is there whole or not at all. A notebook that fails does not
keep the others from their pages. Kernels and temporary folders are gone on every way out.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit import share
from toolkit.errors import ReportError, UsageError
from toolkit.markup import visible
from toolkit.ownership import as_owner_of, make_folders
from toolkit.progress import Progress, silent
from toolkit.report.front import Card, Findings, Highlights, front, highlights, question
from toolkit.report.notebooks import Notebook, find
from toolkit.report.page import GENERATOR, Link, Page, from_notebook, from_template
from toolkit.report.provenance import provenance
from toolkit.report.run import Kernels
from toolkit.report.run import run as run_notebook
from toolkit.scratch_folder import ScratchFolder

if TYPE_CHECKING:
    from toolkit.store import Store

__all__ = ["report", "write"]

#: Notebooks that run at once: each keeps one processor busy most of its time.
AT_ONCE = 2
#: The kernel may give a Ctrl-C to any thread, and Python acts on it when the main thread next wakes: it never sleeps longer.
_ASLEEP_S = 0.2
_INDEX = "index.html"
#: What tells a page of ours from another file; the exporter may order the attributes either way.
_MARK = re.compile(rf'<meta (?=[^>]*name="generator")[^>]*content="{GENERATOR} ')


def report(
    store: str | os.PathLike[str] | Store | None = None,
    out: str | os.PathLike[str] = "reports",
    *,
    host: str | None = None,
    run: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Make a report: a page a notebook and a first page, each one HTML file that needs no network and no server.

    Parameters
    ----------
    store : path or Store, optional
        The store to report on; by default the one named by ``TOOLKIT_STORE``, else ``store`` in the working directory, else the
        reference store that comes with the toolkit.
    out : path
        The folder of the pages; made if it is missing. Pages of an earlier report are replaced, nothing else is touched.
    host, run : str, optional
        Report on this host or this run alone.
    progress : Progress
        Called as pages are done.

    Returns
    -------
    Path
        The first page, ``index.html``. The others are named as their notebooks.

    Raises
    ------
    UsageError
        If the host or run is not in the store.
    ReportError
        If there is no such store, a page cannot be written, or a notebook fails; in the last case the other pages are there, and
        the first page says which is missing and why.

    Examples
    --------
    >>> import tempfile, toolkit
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = toolkit.open_store(Path(folder, "store"))
    ...     index = toolkit.report(store, Path(folder, "reports"))
    >>> index.name
    'index.html'
    >>> toolkit.report("nowhere", "reports")
    Traceback (most recent call last):
    toolkit.errors.ReportError: there is no store nowhere. Measure something first, or name the store with --store.
    """
    return write(store, Path(out), share.notebooks(), host=host, run=run, progress=progress)


@dataclass(frozen=True)
class _Made:
    """What became of a notebook."""

    notebook: Notebook
    offered: Highlights | None = None
    error: ReportError | None = None


def write(
    store: str | os.PathLike[str] | Store | None,
    out: Path,
    folder: Path,
    *,
    host: str | None = None,
    run: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Make a report of the notebooks of a folder; all else as in :func:`report`."""
    measured = _opened(store)
    notebooks = find(folder)
    links = (Link(_INDEX, "Overview"), *(Link(notebook.page, notebook.short) for notebook in notebooks))
    _prepare(out, [link.href for link in links])
    where = {"host": host, "run": run}
    runs = measured.read("runs", **where)
    if runs.empty:
        _check_scope(measured, host, run)
    foot = provenance(runs, measured.path)
    headings = {_INDEX: links[0].title} | {notebook.page: notebook.title for notebook in notebooks}
    pages = {href: Page(href, heading, links, foot) for href, heading in headings.items()}

    environment = {"TOOLKIT_STATIC": "1", "TOOLKIT_STORE": str(measured.path)}
    parameters = {"store": str(measured.path), **where}
    numbers = {notebook.name: str(number) for number, notebook in enumerate(notebooks)}  # short: a socket's path may not be long
    kernels = Kernels()

    def make(notebook: Notebook, private: Path) -> _Made:
        page = pages[notebook.page]
        try:
            node = run_notebook(notebook, parameters, environment, kernels, private / numbers[notebook.name])
            text = from_notebook(node, notebook.path.name, page)
            offered = highlights(node)
        except ReportError as error:
            _put(out / notebook.page, from_template("missing.html.j2", page, why=error.what, remedy=error.remedy))
            return _Made(notebook, error=error)
        _put(out / notebook.page, text)
        return _Made(notebook, offered)

    with ScratchFolder() as private:
        made = _all_made(notebooks, lambda notebook: make(notebook, private), kernels, progress)
    first = front(measured, runs, _cards(made), _findings(made), where)
    failed = [(each.notebook, each.error) for each in made if each.error is not None]
    first = replace(
        first, missing=[(notebook.page, visible(error.what, 600), visible(error.remedy, 600)) for notebook, error in failed]
    )
    _put(out / _INDEX, from_template("front.html.j2", pages[_INDEX], front=first))
    progress(len(notebooks) + 1, len(notebooks) + 1, "the first page")
    if failed:
        raise _failure([error for _, error in failed], len(notebooks), out / _INDEX)
    return out / _INDEX


def _check_scope(store: Store, host: str | None, run: str | None) -> None:
    """Be sure that a host or run that was named is in the store, before every notebook says so."""
    known = store.read("runs", columns=["host", "run_id"])
    for name, wanted, column in (("host", host, "host"), ("run", run, "run_id")):
        there = sorted(known[column].unique())
        if wanted is not None and there and wanted not in there:
            listed = ", ".join(visible(each) for each in there[-10:])
            raise UsageError(f"there is no {name} {visible(wanted)} in {visible(store.path)}", f"There are: {listed}.")


def _opened(store: str | os.PathLike[str] | Store | None) -> Store:
    from toolkit.store import Store, open_store

    if isinstance(store, Store):
        return store
    path = share.named_store(store)
    return open_store(path.resolve(), create=False)


def _all_made(
    notebooks: Sequence[Notebook], make: Callable[[Notebook], _Made], kernels: Kernels, progress: Progress
) -> list[_Made]:
    """Make all pages; in the order of the notebooks, whichever is done first."""
    steps = len(notebooks) + 1
    progress(0, steps, "starting the notebooks")
    with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="notebook") as pool:
        begun: list[Future[_Made]] = [pool.submit(make, notebook) for notebook in notebooks]
        try:
            done, waited = 0, set(begun)
            while waited:
                finished, waited = wait(waited, _ASLEEP_S, FIRST_COMPLETED)
                for each in finished:
                    done += 1
                    progress(done, steps, each.result().notebook.page)
        except BaseException:
            # An interrupt, or a folder that can no longer be written: the threads wait for their kernels, so end these.
            pool.shutdown(wait=False, cancel_futures=True)
            kernels.end_all()
            raise
        return [each.result() for each in begun]


def _findings(made: Sequence[_Made]) -> list[Findings]:
    return [
        Findings(each.notebook.page, each.notebook.short, each.offered.findings)
        for each in made
        if each.offered and each.offered.findings
    ]


def _cards(made: Sequence[_Made]) -> list[Card]:
    """A card a page. A figure that a later page has as its own stands there, and not twice."""
    cards: list[Card] = []
    taken: set[str] = set()
    for each in reversed(made):
        if each.offered is not None:
            picture = each.offered.picture
            own = picture if picture is not None and picture.source not in taken else None
            taken.update([own.source] if own else [])
            cards.insert(0, Card(each.notebook.page, each.notebook.title, question(each.notebook), own))
    return cards


def _failure(errors: Sequence[ReportError], notebooks: int, index: Path) -> ReportError:
    if len(errors) == 1:
        return ReportError(errors[0].what, errors[0].remedy)
    what = "; ".join(error.what for error in errors)
    return ReportError(f"{len(errors)} of {notebooks} pages could not be made: {what}", f"{index} says for each what to do.")


def _prepare(out: Path, names: Sequence[str]) -> None:
    """Make the folder, and be sure that no file of somebody else would be replaced."""
    try:
        with as_owner_of(out):
            make_folders(out)
            # A folder that refuses is told of now, and not after the notebooks have run.
            with tempfile.NamedTemporaryFile(dir=out, prefix=f".{_INDEX}."):
                pass
        for name in names:
            _check_ours(out / name)
    except OSError as error:
        raise _unwritable(out, error) from error


def _check_ours(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(kind):
        with path.open(encoding="utf-8", errors="replace") as file:
            if _MARK.search(file.read(1024)):
                return
    raise ReportError(f"{visible(path)} is there and is no page of ours", "Name another folder with --out, or move that file away.")


def _put(path: Path, text: str) -> None:
    """Write a file, for its owner's eyes alone, beside its place and rename it into it."""
    # The name of a host may hold bytes that are no text; whoever shows one makes it visible, and this is the last net.
    content = text.encode("utf-8", "backslashreplace")
    try:
        with as_owner_of(path.parent):
            handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            with as_owner_of(path.parent):
                Path(beside).replace(path)
        except BaseException:
            with as_owner_of(path.parent):
                Path(beside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ReportError:
    return ReportError(
        f"{visible(path)} cannot be written: {error.strerror}", "Name another folder with --out, or make room there."
    )
