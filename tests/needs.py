"""What a test needs of the machine. In CI a thing that is missing is a failure, elsewhere the test is skipped and says why."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

from toolkit.errors import UnavailableError
from toolkit.kernels import guest_kernel


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
    require_tool("qemu-system-x86_64")
    require_tool("busybox")
    need(importlib.util.find_spec("virtme") is not None, "virtme-ng")
    try:
        guest_kernel()
    except UnavailableError as error:
        need(False, str(error))
