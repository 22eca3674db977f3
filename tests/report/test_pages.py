"""The pages of a report, opened from disk in a real browser that has no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import Seen
from tests.report.books import HOSTILE, MACHINE, figure, notebook, small_store
from toolkit.report.book import write

pytestmark = pytest.mark.browser

NAMES = ["index.html", "01_first.html", "02_second.html"]

HOSTILE_TABLE = """
import pandas as pd, toolkit
from itables import init_notebook_mode, show
init_notebook_mode(connected=False)
runs = toolkit.open_store(store, create=False).read("runs", host=host, run=run)
show(runs[["host", "command", "cpu_model"]].rename(columns={"cpu_model": runs["cpu_model"].iloc[0]}))
print(runs["host"].iloc[0])
print(runs["command"].iloc[0])
"""

HOSTILE_FIGURE = """
import matplotlib.pyplot as plt, toolkit
from IPython.display import display
from toolkit.markup import figure_text
name = toolkit.open_store(store, create=False).read("runs", host=host, run=run)["host"].iloc[0]
figure, axes = plt.subplots()
axes.set_title(figure_text(name))
plt.close(figure)
display(figure, metadata={"image/png": {"alt": f"Samples of {name}"}})
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_without_a_request_or_an_error(pages: Path, offline: Seen, name: str) -> None:
    offline.open(pages / name)
    assert offline.elsewhere() == []
    assert offline.complaints == []
    assert offline.page.title().endswith("virt-toolkit")


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_has_an_alt_text_and_is_drawn(pages: Path, offline: Seen, name: str) -> None:
    offline.open(pages / name)
    pictures = offline.page.eval_on_selector_all("img", "all => all.map(p => [p.alt.trim(), p.naturalWidth])")
    assert pictures
    assert all(alt and width > 0 for alt, width in pictures)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_a_narrow_window(pages: Path, offline: Seen, name: str, scheme: str) -> None:
    offline.page.emulate_media(color_scheme=scheme)
    offline.page.set_viewport_size({"width": 380, "height": 800})
    offline.open(pages / name)
    assert offline.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_click_on_a_heading_sorts_the_table(pages: Path, offline: Seen) -> None:
    from playwright.sync_api import expect

    offline.open(pages / "01_first.html")
    cells = "table.dataTable >> nth=0 >> tbody tr td:first-child"
    offline.page.wait_for_selector(cells)
    before = offline.page.locator(cells).all_inner_texts()
    heading = offline.page.locator("table.dataTable").first.locator("thead th").nth(1)
    heading.locator(".dt-column-order").click()
    assert before == ["write_4k", "fallocate", "mmap_memset"]
    expect(offline.page.locator(cells)).to_have_text(["fallocate", "mmap_memset", "write_4k"])
    assert offline.complaints == []


def test_the_table_library_is_in_a_page_once_and_only_where_a_table_is(pages: Path) -> None:
    assert (pages / "01_first.html").read_text().count("DecompressionStream") == 1
    assert "DecompressionStream" not in (pages / "02_second.html").read_text()


def test_the_pages_lead_to_each_other(pages: Path, offline: Seen) -> None:
    offline.open(pages / "index.html")
    offline.page.click("nav >> text=Second")
    assert offline.page.inner_text("h1") == "Second"
    offline.page.click("main >> text=the first")
    assert offline.page.url.endswith("/01_first.html")
    offline.page.click("nav >> text=Overview")
    offline.page.click("article >> nth=1 >> a >> nth=0")
    assert offline.page.inner_text("h1") == "Second"


def test_the_first_page_leads_with_the_findings_and_says_what_was_not_measured_and_why(pages: Path, offline: Seen) -> None:
    offline.open(pages / "index.html")
    assert "ran toolkit watch --for 1s." in offline.page.inner_text(".findings")
    assert offline.page.locator("main h2").first.inner_text() == "What was found"
    missing = offline.page.inner_text("section[aria-labelledby=unmeasured]")
    assert "/dev/hwrng" in missing
    assert "Add a virtio-rng device." in missing
    assert "source_reads" in offline.page.inner_text("section[aria-labelledby=measured]")


def test_code_is_hidden_until_it_is_asked_for(pages: Path, offline: Seen) -> None:
    offline.open(pages / "01_first.html")
    code = offline.page.locator("details.code .highlight").first
    assert not code.is_visible()
    offline.page.locator("details.code summary").first.click()
    assert code.is_visible()
    assert "plt.subplots" in code.inner_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_foot_says_where_the_figures_come_from(pages: Path, offline: Seen, name: str) -> None:
    offline.open(pages / name)
    said = offline.page.inner_text("footer")
    for words in ("kernel", "memory", "UTC", "pandas", "Python", "by the command", str(pages.parent / "store")):
        assert words in said
    offline.page.click("footer summary")
    assert "toolkit watch --for 1s" in offline.page.inner_text("footer table")


def test_what_a_machine_calls_itself_is_inert(tmp_path: Path, offline: Seen) -> None:
    notebook(tmp_path / "notebooks", "01_hostile", HOSTILE_TABLE, HOSTILE_FIGURE, MACHINE, tags={2: "finding"})
    place = tmp_path / "<b>st\"o're\n"
    store = small_store(place, HOSTILE, command=HOSTILE, cpu_model=HOSTILE, kernel=HOSTILE, hypervisor=HOSTILE)
    index = write(store, tmp_path / "reports", tmp_path / "notebooks")
    for page in (index, index.parent / "01_hostile.html"):
        for width in (1280, 380):
            offline.page.set_viewport_size({"width": width, "height": 800})
            offline.open(page)
            offline.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert offline.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert "<script>alert(1)</script>" in offline.page.inner_text("body")
        assert r"""<b>st"o're\n""" in offline.page.inner_text("footer")
        assert offline.page.locator("img[src='x'], [onerror]").count() == 0
        assert r"\u202e../../etc\x1b[31m" in offline.page.inner_text("footer")
    assert offline.dialogs == []
    assert offline.complaints == []
    assert offline.elsewhere() == []


def test_a_script_that_slipped_into_a_page_is_not_run(pages: Path, tmp_path: Path, offline: Seen) -> None:
    # The last net: whatever got past the escaping, the page's own policy lets no script run but those approved.
    text = (pages / "01_first.html").read_text()
    slipped = tmp_path / "slipped.html"
    slipped.write_text(text.replace("</main>", "<script>alert(1)</script><img src=x onerror=alert(2) alt=x></main>"))
    offline.open(slipped)
    assert offline.dialogs == []
    assert offline.page.locator("table.dataTable").count() > 0
    assert any("Content Security Policy" in said for said in offline.complaints)


def test_figures_stand_on_white_and_the_page_follows_the_readers_colours(pages: Path, offline: Seen) -> None:
    colour = "name => getComputedStyle(document.querySelector(name)).backgroundColor"
    seen = {}
    for scheme in ("light", "dark"):
        offline.page.emulate_media(color_scheme=scheme)
        offline.open(pages / "01_first.html")
        seen[scheme] = offline.page.evaluate(colour, "body")
        assert offline.page.evaluate(colour, "figure") == "rgb(255, 255, 255)"
    assert seen["light"] != seen["dark"]


def test_a_store_with_no_table_gives_pages_that_say_so(tmp_path: Path, offline: Seen) -> None:
    import toolkit

    notebook(tmp_path / "notebooks", "01_empty", figure())
    index = write(toolkit.open_store(tmp_path / "store"), tmp_path / "reports", tmp_path / "notebooks")
    offline.open(index)
    said = offline.page.inner_text("main")
    assert "Nothing was measured yet" in said
    assert "the store holds no measurement" in said
    assert "The store does not say" in said
    assert offline.complaints == []
