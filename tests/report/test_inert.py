"""What may stand in a page, and what may not."""

from __future__ import annotations

from pathlib import Path

import itables
import itables.options
import pandas as pd
import pytest
from itables.javascript import generate_init_offline_itables_html
from nbformat import NotebookNode, v4

from tests.report.books import HOSTILE
from toolkit.errors import ReportError
from toolkit.report.inert import approve

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


def shown(*outputs: NotebookNode) -> NotebookNode:
    """A notebook whose second cell shows these."""
    return v4.new_notebook(cells=[v4.new_markdown_cell("# Title"), v4.new_code_cell("show()", outputs=list(outputs))])


def display(data: dict[str, object], metadata: dict[str, object] | None = None) -> NotebookNode:
    return v4.new_output("display_data", data=data, metadata=metadata or {})


def html(text: str) -> NotebookNode:
    return display({"text/html": text})


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (display({"image/png": PNG}), "a figure without alt text"),
        (display({"image/png": PNG}, {"image/png": {"alt": "  "}}), "a figure without alt text"),
        (display({"image/svg+xml": "<svg/>"}), "a figure without alt text"),
        (html(f'<img src="data:image/png;base64,{PNG}">'), "a figure without alt text"),
        (html(f'<img alt="" src="data:image/png;base64,{PNG}">'), "a figure without alt text"),
        (display({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "IntSlider()"}), "a widget"),
        (display({"application/javascript": "alert(1)", "text/plain": ""}), "a script"),
        (html("<script>alert(1)</script>"), "a script"),
        (html("<SCRIPT >alert(1)</SCRIPT >"), "a script"),
        (html('<script src="data:text/javascript,alert(1)"></script>'), "asks for data:text/javascript"),
        (html("<svg><script>alert(1)</script></svg>"), "a script"),
        (html("<p onclick=alert(1)>x</p>"), "a handler onclick"),
        (html("<details ontoggle=alert(1) open>x</details>"), "a handler ontoggle"),
        (html('<a href="javascript:alert(1)">x</a>'), "asks for javascript:"),
        (html('<a href=" java\nscript:alert(1)">x</a>'), "asks for"),
        (html('<img alt=x src="//example.org/x.png">'), "asks for //example.org"),
        (html('<svg><image href="http://example.org/x"/></svg>'), "asks for http://example.org"),
        (html('<p style="background: url(http://example.org)">x</p>'), "a style"),
        (html("<style>@import 'http://example.org';</style>"), "a style"),
        (html("<style>p { background: URL( 'http://example.org' ) }</style>"), "a style"),
        (html('<link rel="stylesheet" href="http://example.org">'), "an element <link>"),
        (html("<iframe srcdoc=x></iframe>"), "an element <iframe>"),
        (html('<meta http-equiv="refresh" content="0">'), "an element <meta>"),
        (html('<form action="http://example.org"></form>'), "an element <form>"),
        (display({"text/markdown": "![x](http://example.org/x.png)"}), "asks for http://example.org"),
        (display({"text/markdown": "<script>alert(1)</script>"}), "a script"),
        (html(itables.to_html_datatable(pd.DataFrame({"a": [1]}), connected=True)), "an element <link>"),
    ],
)
def test_what_acts_or_asks_or_shows_without_saying_is_refused_with_its_cell(output: NotebookNode, said: str) -> None:
    with pytest.raises(ReportError, match=r"^cell 2 of notebook 01_x.ipynb shows ") as caught:
        approve(shown(output), "01_x.ipynb")
    assert said in caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize(
    "output",
    [
        display({"image/png": PNG}, {"image/png": {"alt": "A dot"}}),
        display({"image/png": PNG}, {"alt": "A dot"}),
        html(f'<img alt="A dot" src="data:image/png;base64,{PNG}">'),
        html(
            '<p style="color: red">See <a href="01_x.html#there">there</a>, <a href="https://example.org/paper">the paper</a>.</p>'
        ),
        v4.new_output("stream", name="stdout", text="<script>alert(1)</script>"),
        display({"text/plain": "<script>alert(1)</script>"}),
    ],
)
def test_what_only_shows_may_stand(output: NotebookNode) -> None:
    node = shown(output)
    assert approve(node, "01_x.ipynb") == ([], False)
    assert node.cells[1].outputs == [output]


def test_the_scripts_of_a_table_are_approved_whatever_its_cells_hold() -> None:
    frame = pd.DataFrame({HOSTILE[:200]: [HOSTILE, "</script>"], "share": [0.25, None], "count": [1, 2]})
    table = itables.to_html_datatable(frame, connected=False, display_logo_when_loading=False)
    scripts, tables = approve(shown(html(table)), "01_x.ipynb")
    assert tables
    assert len(scripts) == 2
    assert all(f">{script}</script>" in table for script in scripts)


def test_a_tables_script_with_code_in_the_place_of_its_data_is_refused() -> None:
    table = itables.to_html_datatable(pd.DataFrame({"a": [1]}), connected=False, display_logo_when_loading=False)
    with pytest.raises(ReportError, match="a script"):
        approve(shown(html(table.replace('"order": []', '"order": alert(1)'))), "01_x.ipynb")
    with pytest.raises(ReportError, match="a script"):
        approve(shown(html(table.replace("(async", "alert(1); (async"))), "01_x.ipynb")


def test_the_tables_library_is_taken_out_of_the_cells_because_the_page_has_it_once() -> None:
    loading = generate_init_offline_itables_html(itables.options.dt_bundle)
    first_call = (Path(itables.__file__).parent / "html" / "init_datatables.html").read_text()
    node = shown(html(first_call), html(loading), html("<p>stays</p>"))
    assert len(node.cells[1].outputs) == 3
    approve(node, "01_x.ipynb")
    assert [output.data["text/html"] for output in node.cells[1].outputs] == ["<p>stays</p>"]
