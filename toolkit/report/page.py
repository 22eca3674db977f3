"""One page: a notebook that was run, or a template of ours, as a single HTML file that needs nothing beside itself.

What may stand in it is decided in :mod:`toolkit.report.inert`; what the front page says in :mod:`toolkit.report.front`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit._version import __version__
from toolkit.markup import escape
from toolkit.report.inert import alt_text, approve
from toolkit.report.provenance import Provenance

if TYPE_CHECKING:
    from nbconvert import HTMLExporter
    from nbformat import NotebookNode

__all__ = ["GENERATOR", "NOTEBOOK_ONLY", "Link", "Page", "from_notebook", "from_template"]

#: Stands in every page; a file without it was not written by us and is never replaced.
GENERATOR = "virt-toolkit"
#: The tag of cells that are left out of a page: what they say of controls, or show, means nothing without a kernel.
NOTEBOOK_ONLY = "notebook-only"
#: The longest line of a stream or of plain text that is shown.
_LINE = 2000
_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)


@dataclass(frozen=True)
class Link:
    """The way to a page of this report."""

    href: str
    title: str


@dataclass(frozen=True)
class Page:
    """What every page of a report has, whatever stands on it; the templates read it."""

    href: str
    heading: str
    links: tuple[Link, ...]
    provenance: Provenance
    library: str = ""
    scripts: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The window's title."""
        return f"{self.heading} · virt-toolkit"

    @property
    def generator(self) -> str:
        """Who wrote it."""
        return f"{GENERATOR} {__version__}"

    @property
    def style(self) -> str:
        """Our style sheet."""
        return _text("page.css")

    @property
    def policy(self) -> str:
        """What the browser may load and run: pictures inside the page, and the scripts that were approved, by their digests.

        The tables' library is unpacked into a blob, and evaluates the functions that format its numbers.
        """
        allowed = " ".join(f"'sha256-{_digest(script)}'" for script in dict.fromkeys(self.scripts))
        run = f"script-src {allowed} blob: 'unsafe-eval'" if allowed else "script-src 'none'"
        return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; {run}; base-uri 'none'; form-action 'none'"


def from_notebook(node: NotebookNode, name: str, page: Page) -> str:
    """The page of a notebook that was run.

    Parameters
    ----------
    node : NotebookNode
        With its outputs. Those that only load the tables' library are taken out; the page carries it once.
    name : str
        The notebook's file name, for errors.
    page : Page
        What the page has beside the notebook.

    Raises
    ------
    ReportError
        If something in it may not stand in a page: see :func:`toolkit.report.inert.approve`.
    """
    scripts, tables = approve(node, name)
    library = _library() if tables else ""
    own = _SCRIPT.findall(library)
    whole = replace(page, library=library, scripts=(*own, *scripts))
    html, _ = _exporter().from_notebook_node(node, resources={"page": whole})
    # A notebook leads to its neighbours as notebooks; a page leads to them as pages.
    return re.sub(r'href="(?:\./)?([\w.-]+)\.ipynb(#[^"]*)?"', r'href="\1.html\2"', str(html))


def from_template(template: str, page: Page, **words: Any) -> str:
    """A page of ours from the template of that name."""
    return str(_exporter().environment.get_template(template).render(page=page, **words))


def _exporter() -> HTMLExporter:
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    order = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain"]
    removed = {"enabled": True, "remove_cell_tags": {NOTEBOOK_ONLY}}
    return HTMLExporter(  # type: ignore[no-untyped-call]
        config=Config({"NbConvertBase": {"display_data_priority": order}, "TagRemovePreprocessor": removed}),
        template_name="report",
        extra_template_basedirs=[str(_TEMPLATES)],
        exclude_anchor_links=True,
        filters={"alt_text": alt_text, "said": _said},
    )


def _said(text: str) -> str:
    """Plain text as HTML, line by line: a line break is meant here, any other mark is made visible."""
    return "\n".join(escape(line, _LINE) for line in text.rstrip("\n").split("\n"))


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


@cache
def _text(name: str) -> str:
    return (_TEMPLATES / "report" / name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """The tables' library as one script. Packed, because it is read a hundred times less often than it is copied."""
    import itables

    bundle = Path(itables.__file__).parent / "html"
    name = f"_itables_{itables.__version__.replace('.', '_').replace('-', '_')}"
    script = _text("library.js").replace("@NAME@", name)
    for word, file in (("@CSS@", "dt_bundle.css"), ("@JS@", "dt_bundle.js")):
        packed = gzip.compress((bundle / file).read_bytes(), compresslevel=9, mtime=0)
        script = script.replace(word, base64.b64encode(packed).decode("ascii"))
    return f"<script>{script}</script>"
