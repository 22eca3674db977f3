"""Which tests two workers may run side by side, and which begin first (``make test``, or ``pytest -n 2``).

A worker is given a group of files at a time, and runs its tests one after the other: what is in one group is never run side by
side. A file is a group of its own, unless its marks or the tables here say otherwise. The process that hands out the tests does not
import them, so it looks for the marks in the text of a file. (The groups that xdist has itself, ``--dist=loadgroup``, come to
nothing with pytest 9.2, without a word.)
"""

from __future__ import annotations

import functools
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

#: What acts on the whole machine, or looks at it.
MACHINE = "machine"
#: The group that a mark puts a whole file into. What needs root mounts, sets something of the kernel's, or becomes another user,
#: unless the file says more than that; guests that tests share are made once, by the one worker that has their group.
MARKED = {"machine": MACHINE, "root": MACHINE, "lab": "guests", "libvirt": "libvirt"}
#: Packages that are a group as a whole: what their files share is made once a session.
TOGETHER = ("tests/explore", "tests/report")
#: What takes long, the longest first, so that none of it begins when the other worker has nothing left to do.
FIRST = (
    MACHINE,
    "guests",
    "libvirt",
    "tests/test_wheel.py",
    "tests/notebooks/test_lab.py",
    "tests/notebooks/test_notebooks.py",
    "tests/report",
    "tests/faults/test_any_series.py",
    "tests/faults/test_killed_writers.py",
    "tests/faults/test_any_frame.py",
)


@functools.cache
def marks_in(path: Path) -> frozenset[str]:
    """The marks that matter here, as far as the text of a file has them."""
    return frozenset(re.findall(rf"\bmark\.({'|'.join(MARKED)})\b", path.read_text(encoding="utf-8")))


def groups_wanted(marks: frozenset[str]) -> list[str]:
    """The groups that marks ask for; more than one only by mistake."""
    return sorted({MARKED[mark] for mark in marks - {"root"}} or {MARKED[mark] for mark in marks})


def group(root: Path, file: str) -> str:
    """The group of a file, given as node ids begin."""
    package = str(PurePosixPath(file).parent)
    return next(iter(groups_wanted(marks_in(root / file))), package if package in TOGETHER else file)


def file_of(node_id: str) -> str:
    """The file of a test."""
    return node_id.partition("::")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a worker: put the long groups first."""
    if hasattr(config, "workerinput"):
        ranks = {name: rank for rank, name in enumerate(FIRST)}
        items.sort(key=lambda item: ranks.get(group(config.rootpath, file_of(item.nodeid)), len(ranks)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that might be run beside what it must not be run beside: its marks are not in its file, or ask for two groups."""
    seen = marks_in(item.config.rootpath / file_of(item.nodeid))
    marks = {mark.name for mark in item.iter_markers()} & MARKED.keys()
    if not marks <= seen:
        pytest.fail(f"it is marked {' and '.join(sorted(marks))} from elsewhere: write that into its file", pytrace=False)
    if len(wanted := groups_wanted(seen)) > 1:
        pytest.fail(f"its file is marked for {' and for '.join(wanted)}: make it several files", pytrace=False)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out the tests by group, in the order in which the workers have them; but in another way, if one was asked for."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        """What belongs together is said by the group of its file."""

        def _split_scope(self, nodeid: str) -> str:
            return group(config.rootpath, file_of(nodeid))

    config.option.loadscopereorder = False
    return ByGroup(config, log)
