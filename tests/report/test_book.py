"""A report is made whole, says what it could not make, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.report.books import HOSTILE, MACHINE, figure, notebook, small_store
from toolkit.errors import ReportError, UsageError
from toolkit.report.book import write


@pytest.fixture
def private_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of its own for scratch folders, so that what is left in it can be seen; short, since it holds sockets."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TOOLKIT_SCRATCH", folder)
        yield Path(folder)


def kernels(under: Path) -> list[str]:
    """Command lines of kernels whose connection file lies in that folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended while we looked
            continue
        if "ipykernel_launcher" in line and str(under) in line:
            found.append(line)
    return found


def test_a_failing_notebook_is_named_and_the_other_pages_are_there(tmp_path: Path, private_tmp: Path) -> None:
    books, out = tmp_path / "notebooks", tmp_path / "reports"
    notebook(books, "01_good", figure())
    notebook(books, "02_bad", figure(), "# a remark\nshare = 1 / 0", figure())
    steps: list[tuple[float, float]] = []
    with pytest.raises(ReportError, match=r"cell 4 of notebook 02_bad.ipynb failed: ZeroDivisionError: division by zero") as caught:
        write(small_store(tmp_path / "store"), out, books, progress=lambda done, total, _: steps.append((done, total)))
    assert "share = 1 / 0" in caught.value.remedy
    assert "A line that falls and rises" in (out / "01_good.html").read_text()
    first = (out / "index.html").read_text()
    assert "02_bad.html" in first
    assert "division by zero" in first
    assert "This page could not be made" in (out / "02_bad.html").read_text()
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert list(private_tmp.iterdir()) == []
    assert kernels(private_tmp) == []
    assert sorted(path.name for path in out.iterdir()) == ["01_good.html", "02_bad.html", "index.html"]


def test_several_failures_are_all_named(tmp_path: Path) -> None:
    books = tmp_path / "notebooks"
    for name in ("01_bad", "02_bad"):
        notebook(books, name, "raise ValueError('no')")
    with pytest.raises(ReportError, match=r"2 of 2 pages could not be made: cell 3 of notebook 01_bad.*02_bad"):
        write(small_store(tmp_path / "store"), tmp_path / "reports", books)


def test_the_error_of_a_cell_is_shown_as_text(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_bad", f"raise ValueError({HOSTILE!r})")
    with pytest.raises(ReportError):
        write(small_store(tmp_path / "store"), tmp_path / "reports", tmp_path / "notebooks")
    for name in ("index.html", "01_bad.html"):
        text = (tmp_path / "reports" / name).read_text()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "<script>alert(1)" not in text
        assert "A" * 1000 not in text


def test_a_kernel_that_dies_is_a_failed_page(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_dies", "import os; os._exit(9)")
    with pytest.raises(ReportError, match=r"the kernel of notebook 01_dies.ipynb died"):
        write(small_store(tmp_path / "store"), tmp_path / "reports", tmp_path / "notebooks")


def test_an_unknown_parameter_is_an_error_and_not_a_warning(tmp_path: Path) -> None:
    path = notebook(tmp_path / "notebooks", "01_first", figure())
    path.write_text(path.read_text().replace("host = None", "hots = None"))
    with pytest.raises(ReportError, match=r"01_first.ipynb knows no parameter 'host'") as caught:
        write(small_store(tmp_path / "store"), tmp_path / "reports", tmp_path / "notebooks")
    assert "hots, run, store" in caught.value.remedy


def test_a_figure_without_alt_text_is_a_failed_page(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_first", figure(alt=" "))
    with pytest.raises(ReportError, match=r"cell 3 of notebook 01_first.ipynb shows a figure without alt text"):
        write(small_store(tmp_path / "store"), tmp_path / "reports", tmp_path / "notebooks")


def test_a_file_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_first", figure())
    out = tmp_path / "site"
    out.mkdir()
    (out / "index.html").write_text("<h1>my own site</h1>")
    with pytest.raises(ReportError, match="is no page of ours"):
        write(small_store(tmp_path / "store"), out, tmp_path / "notebooks")
    assert [path.name for path in out.iterdir()] == ["index.html"]
    assert (out / "index.html").read_text() == "<h1>my own site</h1>"


def test_an_older_report_is_replaced_and_what_else_is_there_stays(tmp_path: Path) -> None:
    books, out = tmp_path / "notebooks", tmp_path / "deep" / "reports"
    notebook(books, "01_first", "print('said first')")
    store = small_store(tmp_path / "store")
    write(store, out, books)
    (out / "notes.txt").write_text("mine")
    notebook(books, "01_first", "print('said last')")
    assert write(store, out, books) == out / "index.html"
    assert "said last" in (out / "01_first.html").read_text()
    assert "said first" not in (out / "01_first.html").read_text()
    assert sorted(path.name for path in out.iterdir()) == ["01_first.html", "index.html", "notes.txt"]


def test_pages_and_their_folders_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_first", "1")
    before = os.umask(0o000)
    try:
        index = write(small_store(tmp_path / "store"), tmp_path / "new" / "reports", tmp_path / "notebooks")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in index.parent.iterdir()} == {0o600}
    assert [path.stat().st_mode & 0o777 for path in (index.parent, index.parent.parent)] == [0o700, 0o700]


def test_a_folder_that_cannot_be_one_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_first", "1")
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot be written") as caught:
        write(small_store(tmp_path / "store"), tmp_path / "file" / "reports", tmp_path / "notebooks")
    assert "--out" in caught.value.remedy


def test_a_host_that_is_not_in_the_store_is_told_before_anything_is_run(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_first", "1")
    store = small_store(tmp_path / "store", "web1")
    with pytest.raises(UsageError, match="there is no host web2") as caught:
        write(store, tmp_path / "reports", tmp_path / "notebooks", host="web2")
    assert "web1" in caught.value.remedy
    assert list((tmp_path / "reports").iterdir()) == []


def test_a_report_can_be_of_one_host_alone(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_first", MACHINE, "print(host, run)")
    small_store(tmp_path / "store", "web1")
    small_store(tmp_path / "store", "web2")
    index = write(tmp_path / "store", tmp_path / "reports", tmp_path / "notebooks", host="web2")
    page = (index.parent / "01_first.html").read_text()
    assert "web2 None" in page
    for text in (page, index.read_text()):
        assert "web2" in text
        assert "web1" not in text


def test_a_store_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_first", "1")
    with pytest.raises(ReportError, match="there is no store"):
        write(tmp_path / "nowhere", tmp_path / "reports", tmp_path / "notebooks")
    assert not (tmp_path / "nowhere").exists()


def test_the_notebook_runs_in_this_interpreter_with_a_private_ipython_and_knows_that_it_is_static(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A kernel of the same name that somebody installed, and a profile of somebody: neither may have a say.
    stranger = tmp_path / "share" / "kernels" / "python3"
    stranger.mkdir(parents=True)
    (stranger / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("print('somebody was here')")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    code = "import os, sys\nprint('runs', sys.executable, os.environ['TOOLKIT_STATIC'], os.environ['TOOLKIT_STORE'])"
    notebook(tmp_path / "notebooks", "01_first", code)
    store = small_store(tmp_path / "store")
    write(store, tmp_path / "reports", tmp_path / "notebooks")
    page = (tmp_path / "reports" / "01_first.html").read_text()
    assert f"runs {sys.executable} 1 {store.path}" in page
    assert "somebody was here" not in page


def test_warnings_of_a_notebook_are_shown(tmp_path: Path) -> None:
    notebook(tmp_path / "notebooks", "01_first", "import warnings\nwarnings.warn('the clock went back')")
    write(small_store(tmp_path / "store"), tmp_path / "reports", tmp_path / "notebooks")
    assert "UserWarning: the clock went back" in (tmp_path / "reports" / "01_first.html").read_text()


def end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)


def end_by_any_thread(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal as the kernel may deliver it: to a thread that is not the one that sleeps until something is done."""
    others = [int(path.name) for path in Path(f"/proc/{process.pid}/task").iterdir() if int(path.name) != process.pid]
    taken = [thread for thread in others if not _blocks(process.pid, thread, number)]
    assert ctypes.CDLL(None).tgkill(process.pid, taken[-1], number) == 0


def _blocks(process: int, thread: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{process}/task/{thread}/status").read_text()
    return bool(int(re.findall(r"SigBlk:\s*([0-9a-f]+)", status)[0], 16) >> (number - 1) & 1)


@pytest.mark.parametrize(("how", "number"), [(end, signal.SIGINT), (end_by_any_thread, signal.SIGINT), (end, signal.SIGKILL)])
def test_no_kernel_outlives_a_report_that_is_ended(
    tmp_path: Path, private_tmp: Path, how: Callable[[subprocess.Popen[bytes], signal.Signals], None], number: signal.Signals
) -> None:
    notebook(tmp_path / "notebooks", "01_long", "import time\ntime.sleep(600)")
    notebook(tmp_path / "notebooks", "02_long", "import time\ntime.sleep(600)")
    small_store(tmp_path / "store")
    program = (
        "from pathlib import Path; from toolkit.report.book import write; "
        f"write({str(tmp_path / 'store')!r}, Path({str(tmp_path / 'reports')!r}), Path({str(tmp_path / 'notebooks')!r}))"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    try:
        _until(lambda: len(kernels(private_tmp)) == 2, child)
        how(child, number)
        _, said = child.communicate(timeout=60)
        _until(lambda: kernels(private_tmp) == [])
    finally:
        child.kill()
        child.communicate()
    if number == signal.SIGINT:
        assert b"KeyboardInterrupt" in said
    else:  # nobody could clean up: the next report does
        notebook(tmp_path / "short", "01_short", "1")
        write(tmp_path / "store", tmp_path / "others", tmp_path / "short")
    assert list(private_tmp.iterdir()) == []
    assert list((tmp_path / "reports").iterdir()) == []


def _until(true: object, child: subprocess.Popen[bytes] | None = None) -> None:
    assert callable(true)
    for _ in range(600):
        if true():
            return
        assert child is None or child.poll() is None, "the report ended by itself"
        time.sleep(0.1)
    pytest.fail("it did not come about within a minute")


def test_the_public_name_is_the_function_even_after_its_package_was_imported() -> None:
    import toolkit.report.book

    assert callable(toolkit.report)
    assert toolkit.report.__name__ == "report"
