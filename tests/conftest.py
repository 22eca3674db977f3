"""What holds for all tests: they hear an interrupt, and so does all that they start."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A shell starts what it runs in the background with the interrupt ignored, which children inherit: many tests send one."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
