"""What a test needs of the machine. In CI a thing that is missing is a failure, elsewhere the test is skipped and says why."""

from __future__ import annotations

import os
import shutil

import pytest

from toolkit.lab_needs import can_boot


def need(there: bool, what: str) -> None:
    """Go on if it is there; fail in CI, skip elsewhere."""
    if there:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI must run every test, and this one needs {what}")
    pytest.skip(f"needs {what}")


def require_root() -> None:
    """Need to be root."""
    need(os.geteuid() == 0, "root")


def require_tool(name: str) -> str:
    """Need a program on the path; gives its path."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=search)
    need(found is not None, f"the program {name}")
    assert found is not None
    return found


def require_lab() -> None:
    """Need what boots lab guests."""
    support = can_boot()
    need(support.available, f"lab guests: {support.detail}")
