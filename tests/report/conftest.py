"""The browser for these tests, and the store and the pages that most of them look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import chromium, offline, seen
from tests.report.books import MACHINE, TABLE, figure, notebook, small_store
from toolkit.report.book import write

__all__ = ["chromium", "offline", "seen"]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two small notebooks."""
    base = tmp_path_factory.mktemp("report")
    notebook(base / "notebooks", "01_first", figure(), TABLE, MACHINE, title="First", tags={2: "finding"})
    notebook(base / "notebooks", "02_second", "print('one line')", figure("Second", "Another line"), title="Second")
    return write(small_store(base / "store"), base / "reports", base / "notebooks").parent
