"""Whatever a machine, a path or an argument is called: in a store, on a page, in a figure, on a terminal it does nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.text
import pandas as pd
import pytest

import toolkit
from tests.browser import Seen
from tests.explore.test_views import VIEWS
from tests.faults import hostile, media
from tests.faults.commands import STORING, called, several, words
from tests.faults.hostile import FILE_NAMES, NO_UTF_8, TEXTS, TOGETHER, inert_output, unseen
from tests.needs import require_root, require_tool
from tests.report.books import notebook, small_store
from toolkit import plots
from toolkit.errors import DamagedFileWarning, ReportError, TableError
from toolkit.explore import session as sessions
from toolkit.report.book import write
from toolkit.store import Store, open_store

#: Letters of one piece of hostile text that may be seen at once, what marks a cut included.
MOST = 2 * 200 * len(r"\U000e0041")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path that is hostile, and no UTF-8."""
    return tmp_path_factory.mktemp("hostile") / NO_UTF_8 / FILE_NAMES["lines"] / FILE_NAMES["handler"]


@pytest.fixture(scope="module")
def store(place: Path) -> Store:
    """A store whose every text is hostile, at a path that is."""
    return hostile.mixed(place / "mixed")


# In a store


def test_every_text_is_a_path_within_the_store_and_comes_back_as_it_is(place: Path) -> None:
    tables = ("runs", "rng_state", "extents")
    store = hostile.store(place / "all", TEXTS.values(), tables)
    files = [path for path in store.path.rglob("*") if path.name not in (".writing", "virt-toolkit-store.json")]
    for path in files:
        assert path.resolve().is_relative_to(store.path.resolve())
        assert not path.name.startswith(".")
        assert len(os.fsencode(path.name)) <= 255
        assert unseen(path.name) == []
        assert re.fullmatch(r"[A-Za-z0-9._=%~-]+", path.name)
    for table in tables:
        found = store.read(table)
        assert set(found["host"]) == set(TEXTS.values())
        for column in set(hostile.text_columns(table)) - {"settings_json"}:
            assert found[column].isna().all() or (found[column] == found["host"]).all(), column
        for text in TEXTS.values():
            assert set(store.read(table, host=text)["host"]) == {text}
        assert len(store.scan(table).compute()) == len(found)


@pytest.mark.parametrize("column", ["run_id", "host", "guest", "boot_id"])
def test_text_that_is_no_utf_8_is_refused_by_its_column_and_nothing_is_written(column: str, tmp_path: Path) -> None:
    opened = open_store(tmp_path / "store")
    frame = toolkit.watch(0.05, 0.01)
    with pytest.raises(TableError, match=f"column {column} of table entropy_samples") as refused:
        opened.append(
            "entropy_samples", frame.astype({column: object}).assign(**{column: pd.Series([NO_UTF_8] * len(frame), dtype=object)})
        )
    assert unseen(str(refused.value)) == []
    assert opened.tables() == []


def test_foreign_files_in_a_store_are_warned_of_in_words_that_do_nothing(tmp_path: Path) -> None:
    opened = small_store(tmp_path / "store")
    for folder in (opened.path / "runs", next((opened.path / "runs").glob("host=*/date=*"))):
        for name in FILE_NAMES.values():
            if not name.startswith("."):
                (folder / name).write_bytes(b"x")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(opened.read("runs")) == 1
    assert len(caught) == 2 * sum(not name.startswith(".") for name in FILE_NAMES.values())
    assert all(each.category is DamagedFileWarning for each in caught)
    assert [unseen(str(each.message)) for each in caught] == [[]] * len(caught)


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_store_may_lie_at_any_path(name: str, tmp_path: Path) -> None:
    opened = open_store(tmp_path / FILE_NAMES[name] / "store")
    samples = toolkit.watch(0.05, 0.01, store=opened)
    assert open_store(opened.path, create=False).read("entropy_samples").equals(samples)
    assert len(opened.scan("entropy_samples").compute()) == len(samples)
    assert len(opened.read("entropy_samples", host=samples["host"].iloc[0], since="2000-01-01")) == len(samples)


# In views, tables and figures


@pytest.fixture
def session(store: Store, monkeypatch: pytest.MonkeyPatch) -> sessions.Session:
    monkeypatch.setattr("IPython.display.display", lambda *things, **_: None)
    return sessions.open(store.path)


#: What our sentences, figures and tables are made of.
ELEMENTS = {"a", "b", "bdi", "br", "caption", "code", "div", "h3", "i", "img", "li", "noscript", "p", "script", "style"}
ELEMENTS |= {"table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"}


class _Words(HTMLParser):
    """The text and the attributes of HTML, as a browser takes them, and the elements that are there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.elements: set[str] = set()
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self._inside = tag
        self.said += [value or "" for name, value in attrs if name not in ("src", "style", "class", "id")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.said.append(data)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_shows_and_offers_nothing_that_acts_or_cannot_be_seen(name: str, session: sessions.Session) -> None:
    view = VIEWS[name](session)
    view.redraw()
    assert view.output.outputs
    for output in view.output.outputs:
        words = _Words(output["data"]["text/html"])
        assert words.elements <= ELEMENTS
        assert {mark for text in words.said for mark in unseen(text)} == set()
        assert unseen(output["data"]["text/plain"]) == []
    for control in view.controls.values():
        offered = [str(label) for label, _ in getattr(control, "_options_full", [])] + [control.description]
        assert {mark for text in offered for mark in unseen(text)} == set()
        assert all(len(text) <= MOST for text in offered)


FIGURES: dict[str, Callable[[sessions.Session], plots.AltFigure]] = {
    "time": lambda session: plots.allocation_time(session.table("allocations")),
    "pieces": lambda session: plots.pieces(session.table("allocations")),
    "map": lambda session: plots.extent_map(session.table("extents")),
    "readiness": lambda session: plots.readiness(session.table("rng_state")),
    "rates": lambda session: plots.rates(session.table("source_reads")),
    "waits": lambda session: plots.waits(session.table("source_reads")),
    "hwrng": lambda session: plots.hwrng(session.table("source_reads"), None, TEXTS["lines"]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_draws_text_and_no_formula_and_is_no_larger_for_it(name: str, session: sessions.Session) -> None:
    figure = FIGURES[name](session)
    drawn = [artist for artist in figure.findobj(matplotlib.text.Text) if artist.get_text()]
    assert not [artist for artist in drawn if artist.get_parse_math()]
    assert {mark for artist in drawn for mark in unseen(artist.get_text())} == set()
    assert unseen(figure.alt) == []
    assert len(figure.alt) < 60_000
    assert figure.get_figheight() < 40
    assert plots.style.png(figure).startswith(b"\x89PNG")


# On a page


@pytest.fixture(scope="module")
def pages(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages of a whole report on the hostile store, made by the command, in a folder of a hostile name."""
    for folder in (store.path / "runs", next((store.path / "runs").glob("host=*/date=*"))):
        for name in FILE_NAMES.values():
            if not name.startswith("."):
                (folder / name).write_bytes(b"x")
    place = tmp_path_factory.mktemp("pages")
    out = place / FILE_NAMES["script"] / NO_UTF_8
    done = called("report", "--store", str(store.path), "--out", str(out), cwd=place)
    assert done.returncode == 0, done.stderr
    for said in (done.stdout, done.stderr):
        inert_output(said)
    return out


PAGES = ["index", "00_start_here", "01_fragmentation", "02_starvation", "03_throughput"]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_hostile_text_runs_nothing_asks_nothing_and_hides_nothing(
    name: str, pages: Path, offline: Seen, tmp_path: Path
) -> None:
    page = tmp_path / f"{name}.html"
    page.write_bytes((pages / f"{name}.html").read_bytes())
    for width in (1280, 380):
        offline.page.set_viewport_size({"width": width, "height": 900})
        offline.open(page)
        offline.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert offline.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert offline.dialogs == []
    assert offline.complaints == []
    assert offline.elsewhere() == []
    assert offline.page.title().endswith("virt-toolkit")
    assert offline.page.locator("h1").count() == 1
    assert offline.page.locator("main").count() == 1
    # Nothing but what our templates make: no handler, no element of theirs, no address, no picture but ours.
    assert (
        offline.page.evaluate(
            "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => /^on/i.test(a.name)).length"
        )
        == 0
    )
    assert offline.page.locator("iframe, object, embed, form, base, textarea, link:not([rel=icon])").count() == 0
    assert offline.page.eval_on_selector_all(
        "img", "all => all.every(p => p.src.startsWith('data:image/') && p.alt && p.naturalWidth)"
    )
    hrefs = offline.page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
    assert not [href for href in hrefs if not re.match(r"#|https://|[\w.-]+\.html", href) or "example.invalid" in href]
    # All that can be read, in text and in attributes, can be seen.
    words = """() => {
        const said = [document.title], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walk.nextNode())
            if (!['SCRIPT', 'STYLE'].includes(walk.currentNode.parentNode.nodeName)) said.push(walk.currentNode.data);
        for (const e of document.querySelectorAll('*')) for (const a of e.attributes)
            if (['alt', 'title', 'aria-label', 'summary'].includes(a.name)) said.push(a.value);
        return said;
    }"""
    said = offline.page.evaluate(words)
    assert {mark for text in said for mark in unseen(text.replace("\t", " "))} == set()
    assert "document.title='owned'" in "".join(said)
    assert not [text for text in said if "A" * 2_000 in text.replace("\n", "")]


@pytest.mark.browser
def test_a_title_of_a_notebook_stays_a_title_or_its_page_says_why_it_is_missing(tmp_path: Path, offline: Seen) -> None:
    titles = [text for text in TOGETHER if text.strip()]
    for number, text in enumerate(titles):
        notebook(tmp_path / "notebooks", f"{number:02}_page", title=" ".join(text.split()))
    with pytest.raises(ReportError, match="which may not stand in a page") as refused:
        write(small_store(tmp_path / "store"), tmp_path / "reports", tmp_path / "notebooks")
    assert unseen(str(refused.value)) == []
    for page in (tmp_path / "reports" / "index.html", tmp_path / "reports" / "00_page.html"):
        offline.page.set_viewport_size({"width": 380, "height": 900})
        offline.open(page)
        assert offline.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert unseen(offline.page.inner_text("nav")) == []
        assert offline.page.locator("nav a").count() == len(titles) + 1
    assert offline.dialogs == []
    assert offline.complaints == []
    assert offline.elsewhere() == []
    assert len(list((tmp_path / "reports").iterdir())) == len(titles) + 1


# On a terminal


HOST_NAMES = [b"<b>\x1b[31m\nerror: forged\xff\xe2\x80\xae$x$\"'{0}../[red]", b""]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory whose name is hostile, and no UTF-8."""
    made = tmp_path / f"{NO_UTF_8}\x1b[31m\nerror: forged\u202e<script>"
    made.mkdir()
    return made


def named(host: bytes) -> list[str]:
    """Words before a command that have it run on a machine of that name."""
    program = f"import os, socket, sys; socket.sethostname({host!r}); os.execv(sys.argv[1], sys.argv[1:])"
    return [require_tool("unshare"), "--uts", sys.executable, "-c", program]


@pytest.mark.root
@pytest.mark.parametrize("host", HOST_NAMES)
def test_commands_on_a_machine_and_in_folders_of_hostile_names_work_and_say_nothing_that_acts(host: bytes, folder: Path) -> None:
    require_root()
    (folder / "tmp").mkdir()
    # For people and for machines; TMPDIR is what doctor looks at.
    asked = [words(name, *more, "--store", "store") for name in STORING for more in ([], ["--json"])]
    for done in several(asked, folder, {"TMPDIR": str(folder / "tmp")}, named(host)):
        assert done.returncode == 0, done
        said = inert_output(done.stdout)
        inert_output(done.stderr)
        if "--json" in done.args:
            json.loads(said)
            assert said.isascii()
    # As the kernel itself calls a machine that has no name.
    expected = host.decode("utf-8", "backslashreplace") or "(none)"
    assert set(open_store(folder / "store", create=False).runs()["host"]) == {expected}


@pytest.mark.root
def test_mount_options_that_are_no_utf_8_do_not_cost_a_measurement(tmp_path: Path) -> None:
    require_root()
    lower, upper = tmp_path / f"low{NO_UTF_8}\x1b[31m", tmp_path / "upper"
    for folder in (lower, upper, tmp_path / "work", tmp_path / "over"):
        folder.mkdir()
    options = os.fsencode(f"lowerdir={lower},upperdir={upper},workdir={tmp_path / 'work'}")
    subprocess.run([require_tool("mount"), "-t", "overlay", b"-o", options, "overlay", tmp_path / "over"], check=True)
    try:
        words = ["allocate", "--directory", str(tmp_path / "over"), "--method", "write_4k", "--size", "4KiB", "--repeat", "1"]
        done = subprocess.run([sys.executable, "-m", "toolkit", *words], cwd=tmp_path, capture_output=True, check=False)
    finally:
        media.run(require_tool("umount"), str(tmp_path / "over"))
    assert done.returncode == 0, done.stderr
    inert_output(done.stdout)
    (row,) = open_store(tmp_path / "store").read("allocations").to_dict("records")
    assert row["filesystem"] == "overlay"
    assert rf"low{os.fsencode(NO_UTF_8).decode('utf-8', 'backslashreplace')}" in row["mount_options"]


ARGUMENTS: dict[str, Callable[[str], list[str]]] = {
    "command": lambda text: [text],
    "option": lambda text: ["watch", f"--{text}"],
    "duration": lambda text: ["watch", "--for", text],
    "source": lambda text: ["sources", "--source", text],
    "block": lambda text: ["sources", "--block", text],
    "file system": lambda text: ["allocate", "--filesystem", text],
    "method": lambda text: ["allocate", "--method", text],
    "size": lambda text: ["allocate", "--size", text],
    "repeat": lambda text: ["allocate", "--repeat", text],
    "busy": lambda text: ["allocate", "--directory", ".", "--if-busy", text],
    "folder": lambda text: ["allocate", "--directory", f"none/{text}"],
    "file": lambda text: ["extents", f"none/{text}"],
    "store": lambda text: ["report", "--store", f"none/{text}"],
    "host": lambda text: ["report", "--host", text],
    "run": lambda text: ["report", "--run", text],
    "out": lambda text: ["report", "--out", f"store/virt-toolkit-store.json/{text}"],
    "no store": lambda text: ["watch", "--store", f"store/virt-toolkit-store.json/{text}"],
    "notebooks": lambda text: ["notebooks", "--store", f"none/{text}"],
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[subprocess.CompletedProcess[bytes]]]:
    """What every command says to every text in every place of an argument."""
    place = tmp_path_factory.mktemp("arguments")
    small_store(place / "store", "web1")
    texts = [text for text in [*TEXTS.values(), NO_UTF_8] if "\x00" not in text and text.strip(". ")]
    asked = [(kind, [ARGUMENTS[kind](text) for text in texts]) for kind in ARGUMENTS]
    said = iter(several([words for _, lines in asked for words in lines], place))
    return {kind: [next(said) for _ in lines] for kind, lines in asked}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_an_argument_that_cannot_be_meant_is_refused_in_words_that_do_nothing(
    kind: str, answers: dict[str, list[subprocess.CompletedProcess[bytes]]]
) -> None:
    for done in answers[kind]:
        if done.args[-1] == "--help":
            continue
        assert done.returncode in (1, 2) or kind == "source", done  # any path may be a source
        assert "Traceback" not in inert_output(done.stderr)
        inert_output(done.stdout)
        assert len(done.stderr) < 12_000, done.args


def test_a_file_of_any_name_is_mapped_stored_and_shown(tmp_path: Path) -> None:
    asked = []
    for text in FILE_NAMES.values():
        (tmp_path / text).write_bytes(b"x" * 8192)
        asked.append(["extents", f"./{text}", "--store", f"./{text}.store"])
    for text, done in zip(FILE_NAMES.values(), several(asked, tmp_path), strict=True):
        assert done.returncode == 0, done
        inert_output(done.stderr)
        assert "discontinuit" in inert_output(done.stdout)
        (file,) = set(open_store(tmp_path / f"{text}.store", create=False).read("extents")["file"])
        assert file.endswith(os.fsencode(text).decode("utf-8", "backslashreplace"))
