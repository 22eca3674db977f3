"""The notebooks in a real JupyterLab: opened, run, a control moved, and the figure seen to change."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.browser import PATIENCE_MS, Seen
from tests.needs import require_tool
from tests.plots import made
from toolkit import share
from toolkit.errors import ReportError
from toolkit.report.jupyterlab import running

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = ["00_start_here", "01_fragmentation", "02_starvation", "03_throughput"]

#: What JupyterLab itself complains of in the console, whatever notebook is open, by its exact text.
KNOWN_NOISE: frozenset[str] = frozenset()

#: The status bar's words once the notebook has its kernel and the kernel has nothing to do.
IDLE = "text=/^Python 3.* \\| Idle$/"

#: Cells that are out of sight are not in the page otherwise; nobody answers a question about news; saving would be noise.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings": {"autosave": False},
}


def private(folder: Path) -> dict[str, str]:
    """A user who never used Jupyter: every folder where it keeps settings, data or state, empty but for ours."""
    for name, content in SETTINGS.items():
        path = folder / "settings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (folder / "home").mkdir()
    return {
        "HOME": str(folder / "home"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """JupyterLab on a copy of the notebooks, so that a test changes none; gives its address."""
    require_tool("chromium")
    base = tmp_path_factory.mktemp("lab")
    shutil.copytree(share.notebooks(), base / "notebooks")
    with running(made.store(base / "store"), notebooks=base / "notebooks", environment=private(base)) as (address, _):
        yield address


def address_of(lab: str, name: str) -> str:
    """The address of a notebook, alone in its window's workspace."""
    parts = urlsplit(lab)
    return f"{parts.scheme}://{parts.netloc}/lab/workspaces/{name}/tree/{name}.ipynb?reset&{parts.query}"


def open_and_run(page: Page, address: str) -> None:
    """Open a notebook and run all its cells from the menu, as a person does."""
    page.goto(address)
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    page.wait_for_selector(IDLE)
    page.click(".lm-MenuBar-item >> text=/^Run$/")
    page.click(".lm-Menu-item >> text=/^Run All Cells$/")
    # Every code cell has a number, and none a star.
    page.wait_for_function(
        """() => {
            const said = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent.trim());
            return said.length > 0 && said.every(text => /^\\[\\d+\\]:?$/.test(text));
        }""",
        timeout=2 * PATIENCE_MS,
    )
    page.wait_for_selector(IDLE)


def pictures(page: Page) -> list[bytes]:
    """The image data of every figure shown."""
    sources = page.eval_on_selector_all(".jp-OutputArea img", "all => all.map(p => p.src)")
    return [base64.b64decode(source.partition("base64,")[2]) for source in sources if source.startswith("data:image/")]


def move(page: Page) -> str:
    """Change the first control that leaves a choice; says which it was."""
    several = page.locator(".widget-select-multiple select").filter(has=page.locator("option:nth-child(2)"))
    one = page.locator(".widget-dropdown select").filter(has=page.locator("option:nth-child(2)"))
    if several.count():
        several.first.select_option(index=0)
        return "a list"
    if one.count():
        one.first.select_option(index=one.first.locator("option").count() - 1)
        return "a choice"
    handle = page.locator(".jupyter-widgets .noUi-handle").last
    for _ in range(5):
        handle.press("ArrowLeft")
    return "a slider"


def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(PATIENCE_MS // 100):
        if true():
            return
        time.sleep(0.1)
    pytest.fail(f"{what} did not come about")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_its_figure_follows_a_control(lab: str, seen: Seen, name: str) -> None:
    page = seen.page
    open_and_run(page, address_of(lab, name))
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.locator(".jp-OutputArea img:not([alt]), .jp-OutputArea img[alt='']").count() == 0
    before = pictures(page)
    assert before
    assert all(data.startswith(b"\x89PNG") for data in before)
    moved = move(page)
    until(lambda: len(pictures(page)) > 0 and pictures(page) != before, f"another figure after {moved} was moved")
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert [said for said in seen.complaints if said not in KNOWN_NOISE] == []


def late(configuration: Path) -> None:
    """Have the server listen a second after it told where, as it does on a busy machine."""
    configuration.mkdir()
    (configuration / "jupyter_server_config.py").write_text(
        "import time\nfrom tornado.httpserver import HTTPServer\nlisten = HTTPServer.listen\n"
        "HTTPServer.listen = lambda *all, **named: (time.sleep(1), listen(*all, **named))[1]\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_server_outlives_whoever_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TOOLKIT_SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "store").mkdir()
    (tmp_path / "notebooks").mkdir()
    late(tmp_path / "config")
    program = (
        "import sys\nfrom pathlib import Path\nfrom toolkit.report.jupyterlab import running\n"
        f"with running({str(tmp_path / 'store')!r}, notebooks=Path({str(tmp_path / 'notebooks')!r}), "
        f"environment={private(tmp_path)!r}) as (address, server):\n"
        "    print(address, flush=True)\n    server.wait()"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        assert answers(address)
        child.send_signal(number)
        child.wait(60)
        until(lambda: not answers(address), "the server's end")
    finally:
        child.kill()
        child.communicate()


@pytest.mark.slow
def test_serving_tells_the_address_and_ends_well_with_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    program = (
        "from toolkit.report.jupyterlab import serve\n"
        f"serve({str(tmp_path / 'store')!r}, browser=False, announce=lambda said: print(said, flush=True))"
    )
    surroundings = os.environ | private(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", program], env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert child.stdout is not None
        said = child.stdout.readline()
        address = next(word for word in said.split() if word.startswith("http://127.0.0.1:"))
        assert "/lab/tree/00_start_here.ipynb?token=" in address
        assert answers(address)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
        assert not answers(address)
    finally:
        child.kill()
        child.communicate()


def answers(address: str) -> bool:
    """Whether somebody serves there."""
    try:
        with urllib.request.urlopen(address, timeout=10) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def test_a_store_that_is_not_there_starts_no_server(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="there is no store"), running(tmp_path / "nowhere", notebooks=tmp_path):
        pytest.fail("it started")
