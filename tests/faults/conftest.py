"""The browser for these tests."""

from __future__ import annotations

from tests.browser import chromium, offline, seen

__all__ = ["chromium", "offline", "seen"]
