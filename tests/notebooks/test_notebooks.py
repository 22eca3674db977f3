"""The notebooks as they are kept, and each run from top to bottom in a kernel of its own, on a full store and on an empty one."""

from __future__ import annotations

import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbstripout import strip_output

from tests.plots import made
from toolkit import share
from toolkit.report.notebooks import find
from toolkit.report.run import Kernels
from toolkit.report.run import run as run_notebook
from toolkit.store import open_store

NAMES = ["00_start_here", "01_fragmentation", "02_starvation", "03_throughput"]
#: A cell is a few lines: what is longer belongs into toolkit/.
LINES = 6


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(share.notebooks() / f"{name}.ipynb", as_version=4)


def test_these_are_all_notebooks() -> None:
    assert sorted(path.stem for path in share.notebooks().glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs(name: str) -> None:
    node = read(name)
    stripped = strip_output(nbformat.from_dict(node), keep_output=False, keep_count=False, keep_id=False)
    assert stripped == node
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in node.cells)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_title_question_parameters_and_short_cells(name: str) -> None:
    node = read(name)
    title, question = node.cells[0].source.split("\n\n")[:2]
    assert title.startswith("# ")
    assert "?" in question
    [parameters] = [cell for cell in node.cells if "parameters" in cell.metadata.get("tags", [])]
    given: dict[str, object] = {}
    exec(parameters.source, given)
    assert {key: given[key] for key in ("store", "host", "run")} == {"store": None, "host": None, "run": None}
    for cell in node.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= LINES
    assert sum("key-figure" in cell.metadata.get("tags", []) for cell in node.cells) == 1


@pytest.mark.parametrize("name", NAMES)
def test_links_between_notebooks_lead_somewhere(name: str) -> None:
    for cell in read(name).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
                assert (share.notebooks() / target).is_file(), target


@pytest.mark.parametrize(
    ("name", "claims", "withdrawn"),
    [
        ("01_fragmentation", ["*ext4 (folder)*", "a few entries in a table"], ["today's measurement avoids", "ever since"]),
        ("02_starvation", ["draws on the hardware source"], ["draws on `/dev/hwrng`"]),
        ("03_throughput", ["a few dozen bytes about once a minute", "2048 bytes per 1000 ms"], ["32 bytes", "far less"]),
    ],
)
def test_a_notebook_claims_no_more_than_is_known(name: str, claims: list[str], withdrawn: list[str]) -> None:
    text = " ".join(" ".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown").split())
    assert [claim for claim in claims if claim not in text] == []
    assert [claim for claim in withdrawn if claim in text] == []


def run(name: str, store: Path, static: str) -> nbformat.NotebookNode:
    """Run a notebook as a report does, in a kernel of its own; in a thread, whose event loop goes with it."""
    notebook = next(each for each in find(share.notebooks()) if each.name == name)
    environment = {"TOOLKIT_STATIC": static, "TOOLKIT_STORE": "/nowhere"}
    with tempfile.TemporaryDirectory() as private, ThreadPoolExecutor(max_workers=1) as pool:  # short: it holds sockets
        return pool.submit(run_notebook, notebook, {"store": str(store)}, environment, Kernels(), Path(private, "k")).result()


def outputs(node: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in node.cells for output in cell.get("outputs", [])]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("full") / "store")


@pytest.mark.slow
@pytest.mark.parametrize("static", ["1", "0"])
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_on_a_full_store(name: str, static: str, full: Path) -> None:
    shown = outputs(run(name, full, static))
    assert {output.output_type for output in shown} == {"display_data"}
    figures = [output for output in shown if "image/png" in output.data]
    widgets = [output for output in shown if "application/vnd.jupyter.widget-view+json" in output.data]
    assert (bool(figures), bool(widgets)) == ((True, False) if static == "1" else (False, True))
    assert all(len(output.metadata["image/png"]["alt"]) > 40 for output in figures)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_on_an_empty_store_says_what_is_missing(name: str, tmp_path: Path) -> None:
    open_store(tmp_path / "store")
    shown = outputs(run(name, tmp_path / "store", "1"))
    assert {output.output_type for output in shown} == {"display_data"}
    assert "is not in this store: run <code>" in "".join(output.data.get("text/html", "") for output in shown)
