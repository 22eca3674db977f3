"""What may stand in a page: nothing that asks for an address, acts by itself, or shows a figure without saying what it shows.

Every output of a notebook passes here before it becomes part of a page. What does not fit is an error that names the cell,
not something taken out in silence: a notebook that puts a machine's text into HTML unescaped is to be corrected.
The pages' Content-Security-Policy (:mod:`toolkit.report.page`) then lets the browser run the scripts approved here and no other.
"""

from __future__ import annotations

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import ReportError
from toolkit.markup import visible
from toolkit.report.notebooks import cells

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["alt_text", "approve"]

_ALT_REMEDY = "Give the figure one: display(figure, metadata={'image/png': {'alt': 'what it shows'}})."
_ESCAPE_REMEDY = "Build the output with toolkit.markup.sentence and paragraph, which escape what a machine said."
_PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
_ACTIVE = {
    "application/vnd.jupyter.widget-view+json": "a widget, which can do nothing without a kernel",
    "application/javascript": "a script",
}
_FORBIDDEN = frozenset({"applet", "base", "embed", "form", "frame", "frameset", "iframe", "link", "meta", "object", "portal"})
_ADDRESSES = frozenset({"action", "background", "data", "formaction", "href", "poster", "src", "srcset", "xlink:href"})
_STYLE_ADDRESS = re.compile(r"@import|url\(\s*['\"]?(?!data:|#)", re.IGNORECASE)
_LINK = re.compile(r"(https?://|mailto:|#|(\./)?[\w.-]+\.(html|ipynb)(#|$))", re.IGNORECASE | re.ASCII)


def approve(node: NotebookNode, name: str) -> tuple[list[str], bool]:
    """Check everything that a notebook shows; take out the tables' library, which a page carries once.

    Parameters
    ----------
    node : NotebookNode
        A notebook that was run; its outputs that only load the library are removed.
    name : str
        Its file name, for the errors.

    Returns
    -------
    scripts : list of str
        The scripts that belong to its tables, exactly as they stand.
    tables : bool
        Whether a table needs the library.

    Raises
    ------
    ReportError
        If something acts, asks for an address, or is a figure without an alt text.
    """
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    scripts: list[str] = []
    for number, cell in cells(node):
        where = f"cell {number} of notebook {name}"
        if cell.cell_type == "markdown":
            _check_html(markdown2html_mistune(cell.source), where, scripts)
        for output in list(cell.get("outputs", [])):
            data = output.get("data", {})
            if _loads_library(data.get("text/html", "")):
                cell.outputs.remove(output)
                continue
            for kind, what in _ACTIVE.items():
                if kind in data:
                    raise ReportError(
                        f"{where} shows {what}", "In a report show it as figures: toolkit.explore.static() tells that it is one."
                    )
            if "text/html" in data:
                _check_html(data["text/html"], where, scripts)
            elif any(kind in data for kind in _PICTURES):
                if not alt_text(output):
                    raise ReportError(f"{where} shows a figure without alt text", _ALT_REMEDY)
            elif "text/markdown" in data:
                _check_html(markdown2html_mistune(data["text/markdown"]), where, scripts)
    return scripts, any("new ITable(" in script for script in scripts)


def alt_text(output: NotebookNode) -> str:
    """What a figure's output says that it shows; empty if it says nothing."""
    places = [output.metadata.get(kind, {}) for kind in _PICTURES if kind in output.data] + [output.metadata]
    return next((str(place["alt"]).strip() for place in places if place.get("alt")), "")


def _check_html(text: str, where: str, scripts: list[str]) -> None:
    reader = _Reader(where)
    reader.feed(text)
    reader.close()
    scripts.extend(reader.scripts)


class _Reader(HTMLParser):
    """Walks through HTML and refuses what may not stand in a page."""

    def __init__(self, where: str) -> None:
        super().__init__(convert_charrefs=True)
        self._where = where
        self._inside = ""
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _FORBIDDEN:
            raise self._refused(f"an element <{tag}>")
        given = {name.lower(): value or "" for name, value in attrs}
        for name, value in given.items():
            if name.startswith("on"):
                raise self._refused(f"a handler {visible(name, 20)}")
            if name in _ADDRESSES and not _harmless(tag, value):
                raise self._refused(f"an element <{tag}> that asks for {visible(value, 60)}")
            if name == "style" and _STYLE_ADDRESS.search(value):
                raise self._refused("a style that asks for an address")
        if tag == "script" and given.keys() - {"type"}:
            raise self._refused("a script")
        if tag == "img" and not given.get("alt", "").strip():
            raise ReportError(f"{self._where} shows a figure without alt text", _ALT_REMEDY)
        self._inside = tag if tag in self.CDATA_CONTENT_ELEMENTS else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            if not _belongs_to_table(data):
                raise self._refused("a script")
            self.scripts.append(data)
        elif self._inside == "style" and _STYLE_ADDRESS.search(data):
            raise self._refused("a style that asks for an address")

    def _refused(self, what: str) -> ReportError:
        return ReportError(f"{self._where} shows {what}, which may not stand in a page", _ESCAPE_REMEDY)


def _harmless(tag: str, value: str) -> bool:
    if tag == "a":
        return bool(_LINK.match(value.strip()))
    return value.startswith(("data:image/", "#"))


def _loads_library(text: str) -> bool:
    """Whether an output is what ``itables.init_notebook_mode`` shows: the library itself, or its first call."""
    return "set_or_remove_dark_class();" in text or "async function injectModule(" in text


def _belongs_to_table(script: str) -> bool:
    """Whether a script is one that itables writes for a table: its own words, and data between them that are JSON and no code."""
    if not script.strip() or _swap().fullmatch(script):
        return True
    found = _module().fullmatch(script)
    if found is None:
        return False
    try:
        json.loads(found["data"])
    except ValueError:
        return False
    return True


@cache
def _swap() -> re.Pattern[str]:
    hide = r'document\.getElementById\("[\w-]+"\)\?\.removeAttribute\("hidden"\);'
    show = r'document\.getElementById\("[\w-]+"\)\?\.setAttribute\("hidden", "hidden"\);'
    return re.compile(hide + show, re.ASCII)


@cache
def _module() -> re.Pattern[str]:
    """The script of a table, from the template that the installed itables fills in."""
    import itables

    folder = Path(itables.__file__).parent / "html"
    text = (folder / "datatables_template_offline.html").read_text(encoding="utf-8")
    script = text.partition('<script type="module">')[2].partition("</script>")[0]
    pattern = re.escape(script)
    for word, stands_for in (
        ("_itables_underscore_version", r"_itables_\w+"),
        ("itables-version-ready", r"itables-[\w.-]+-ready"),
        ("#table_id", r"#[\w-]+"),
        ("let dt_args = {};", r"let dt_args = (?P<data>\{.*\});"),
    ):
        pattern = pattern.replace(re.escape(word), stands_for)
    return re.compile(pattern, re.DOTALL | re.ASCII)
