"""A kernel of another suite than this machine's, fetched once into a cache that the tests of all sessions share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from toolkit.errors import UnavailableError
from toolkit.lab_feeders import fetch_feeders
from toolkit.lab_kernels import GuestKernel, fetch_kernel, kernel_of

#: Older than what Debian 12 comes with: 5.10.
OTHER_SUITE = "bullseye"


@contextlib.contextmanager
def shared_cache() -> Iterator[Path]:
    """Make the cache of the tests the toolkit's, also that of what is started meanwhile."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "virt-toolkit-tests" / "fetched"
    with mock.patch.dict(os.environ, TOOLKIT_CACHE=str(cache)):
        yield cache


def other_kernel() -> GuestKernel:
    """It; where it cannot be had the test fails in CI and is skipped elsewhere."""
    with shared_cache(), _needed():
        return kernel_of(fetch_kernel(OTHER_SUITE))


def all_feeders() -> Path:
    """The cache with the feeders in it."""
    with shared_cache() as cache, _needed():
        fetch_feeders()
        return cache


@contextlib.contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except UnavailableError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must run every test, and this one needs what cannot be fetched: {error}")
        pytest.skip(f"needs what cannot be fetched: {error}")
