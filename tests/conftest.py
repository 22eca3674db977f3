"""What holds for all tests: they hear an interrupt, and so does all that they start. And in which groups (tests.groups)."""

from __future__ import annotations

import signal

from tests.groups import pytest_collection_modifyitems, pytest_runtest_setup, pytest_xdist_make_scheduler

__all__ = ["pytest_collection_modifyitems", "pytest_configure", "pytest_runtest_setup", "pytest_xdist_make_scheduler"]


def pytest_configure() -> None:
    """A shell starts what it runs in the background with the interrupt ignored, which children inherit: many tests send one."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
