"""What holds for all tests: they hear an interrupt and a hangup, as does all that they start. And in which groups."""

from __future__ import annotations

import signal

from tests.groups import pytest_collection_modifyitems, pytest_runtest_setup, pytest_xdist_make_scheduler

__all__ = ["pytest_collection_modifyitems", "pytest_configure", "pytest_runtest_setup", "pytest_xdist_make_scheduler"]


def pytest_configure() -> None:
    """A shell starts what it runs in the background with the interrupt ignored, nohup with the hangup; tests send both."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
