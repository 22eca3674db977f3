"""A real Chromium for the tests, and a page that notes every request, console message, page error and dialog.

The browser is the system's, driven by playwright; its profile is a new empty folder. Import the fixtures into a ``conftest.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.needs import require_tool

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: How long anything in a page may take to come about; only a broken page needs it.
PATIENCE_MS = 60_000


@dataclasses.dataclass
class Seen:
    """What a page did while it was open."""

    page: Page
    requests: list[str] = dataclasses.field(default_factory=list)
    console_errors: list[str] = dataclasses.field(default_factory=list)
    page_errors: list[str] = dataclasses.field(default_factory=list)
    dialogs: list[str] = dataclasses.field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        """Errors of either kind."""
        return self.console_errors + self.page_errors

    def elsewhere(self) -> list[str]:
        """Requests that left the page: to any address, or to any file but an HTML page opened as such."""
        inside = ("data:", "blob:")
        return [
            url for url in self.requests if not url.startswith(inside) and not (url.startswith("file:") and url.endswith(".html"))
        ]

    def open(self, path: Path) -> None:
        """Open a file and wait until all in it has settled."""
        self.page.goto(path.resolve().as_uri(), wait_until="load")
        self.page.wait_for_load_state("networkidle")


# Once a module and not once a session: while playwright lives, no other test in this thread can run an event loop of its own.
@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """The browser, with an empty profile."""
    program = require_tool("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=program,
            args=list(FLAGS),
            headless=True,
            viewport={"width": 1280, "height": 900},
        )
        context.set_default_timeout(PATIENCE_MS)
        try:
            yield context
        finally:
            context.close()


@pytest.fixture
def seen(chromium: BrowserContext) -> Iterator[Seen]:
    """A new page that notes what it does; it is closed afterwards."""
    page = chromium.new_page()
    noted = Seen(page)

    def request(made: Request) -> None:
        noted.requests.append(made.url)

    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            noted.console_errors.append(f"{message.text} ({message.location.get('url', '')})")

    def dialog(shown: Dialog) -> None:
        noted.dialogs.append(shown.message)
        shown.dismiss()

    page.on("request", request)
    page.on("console", console)
    page.on("pageerror", lambda error: noted.page_errors.append(str(error)))
    page.on("dialog", dialog)
    try:
        yield noted
    finally:
        page.close()


@pytest.fixture
def offline(seen: Seen) -> Iterator[Seen]:
    """The same without a network."""
    seen.page.context.set_offline(True)
    try:
        yield seen
    finally:
        seen.page.context.set_offline(False)
