"""The toolkit's own notebooks as a report, opened from disk in a real browser that has no network."""

from __future__ import annotations

from pathlib import Path

import pytest

import toolkit
from tests.browser import Seen
from tests.plots import made
from tests.report.books import small_store

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NAMES = ["index.html", "00_start_here.html", "01_fragmentation.html", "02_starvation.html", "03_throughput.html"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a store that has every table."""
    base = tmp_path_factory.mktemp("own")
    return toolkit.report(made.store(base / "store"), base / "reports").parent


def test_there_is_a_page_a_notebook_named_as_it(report: Path) -> None:
    assert sorted(path.name for path in report.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_needs_nothing_beside_itself(report: Path, offline: Seen, name: str) -> None:
    offline.open(report / name)
    assert offline.elsewhere() == []
    assert offline.complaints == []
    pictures = offline.page.eval_on_selector_all("img", "all => all.map(p => [p.alt.trim(), p.naturalWidth])")
    assert pictures
    assert all(alt and width > 0 for alt, width in pictures)
    assert "kernel" in offline.page.inner_text("footer")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_a_narrow_window(report: Path, offline: Seen, name: str) -> None:
    offline.page.set_viewport_size({"width": 380, "height": 800})
    offline.open(report / name)
    offline.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert offline.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_has_nothing_of_controls_that_it_has_not(report: Path) -> None:
    text = (report / "02_starvation.html").read_text()
    notebook = (toolkit.share.notebooks() / "02_starvation.ipynb").read_text()
    for words in ("hold Ctrl or Shift", "Start watching", "explore.Live()"):
        assert words in notebook
        assert words not in text
    assert "The pool over time" in text


@pytest.mark.parametrize("name", ["01_fragmentation.html", "03_throughput.html"])
def test_a_table_is_sorted_by_a_click(report: Path, offline: Seen, name: str) -> None:
    from playwright.sync_api import expect

    offline.open(report / name)
    table = offline.page.locator("table.dataTable").filter(has=offline.page.locator("tbody tr:nth-child(3)")).first
    column = table.locator("tbody tr td:first-child")
    names = column.all_inner_texts()
    heading = table.locator("thead th").first
    for direction in ("ascending", "descending"):
        heading.locator(".dt-column-order").click()
        expect(heading).to_have_attribute("aria-sort", direction)
    after = column.all_inner_texts()  # the first page of the table: others may have come to it
    assert after != names
    assert after == sorted(after, reverse=True)
    assert after[0] >= max(names)


def test_each_page_offers_its_findings_to_the_first(report: Path, offline: Seen) -> None:
    offline.open(report / "index.html")
    found = offline.page.locator(".findings")
    assert found.locator("h3").all_inner_texts() == ["File allocation", "Starvation", "Throughput"]
    assert found.locator("li").count() >= 3
    assert offline.page.locator(".card img").count() == 3


def test_a_store_without_measurements_gives_pages_that_say_so(tmp_path: Path, offline: Seen) -> None:
    store = toolkit.open_store(tmp_path / "store")
    store.append("runs", small_store(tmp_path / "other").read("runs"))
    index = toolkit.report(store, tmp_path / "reports")
    for name in NAMES[2:]:
        offline.open(index.parent / name)
        assert "is not in this store" in offline.page.inner_text("main")
    assert offline.complaints == []
