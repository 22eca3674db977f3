"""Two workers never run side by side what must not be: what a mark puts together is run by one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.groups import FIRST, TOGETHER

ROOT = Path(__file__).parent.parent
TEST = "import pytest\n\n{mark}\n@pytest.mark.parametrize('n', range(6))\ndef test_it(n):\n    pass\n"


def _file(folder: Path, name: str, *marks: str) -> None:
    (folder / f"test_{name}.py").write_text(TEST.format(mark="\n".join(f"@pytest.mark.{mark}" for mark in marks)))


#: A mark that whoever reads the file does not see.
CONFTEST = "def pytest_itemcollected(item):\n    if 'test_g' in item.nodeid:\n        item.add_marker('machine')\n"


def test_each_group_is_run_by_one_worker_and_long_ones_begin_first(tmp_path: Path) -> None:
    marked = {
        "a": (),
        "b": ("root",),
        "c": ("lab",),
        "d": (),
        "e": ("machine",),
        "f": ("root", "lab"),
        "g": (),
        "h": ("lab", "machine"),
    }
    for name, marks in marked.items():
        _file(tmp_path, name, *marks)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    machine\n    root\n    lab\n")
    words = "-n 2 -v -p tests.groups -p no:cacheprovider -p no:hypothesispytest"
    command = [sys.executable, "-m", "pytest", *words.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    ran = re.findall(r"\[(gw\d)\] .* (PASSED|ERROR|FAILED) test_(\w)\.py::", done.stdout)
    assert len(ran) == 6 * len(marked), done.stdout + done.stderr
    assert {(name, result) for _, result, name in ran} == {(name, "ERROR" if name in "gh" else "PASSED") for name in marked}
    assert "it is marked machine from elsewhere: write that into its file" in done.stdout
    assert "its file is marked for guests and for machine: make it several files" in done.stdout
    workers = defaultdict(set)
    for worker, _, name in ran:
        workers[{"e": "b", "f": "c", "h": "c"}.get(name, name)].add(worker)
    assert {len(each) for each in workers.values()} == {1}, workers
    assert workers["b"] != workers["c"]
    assert {name for _, _, name in ran[:2]} <= {"b", "c"}


def test_what_begins_first_and_what_is_kept_together_is_there() -> None:
    later = {"guests", "libvirt"}
    assert [name for name in {*FIRST, *TOGETHER} - later if name != "machine" and not (ROOT / name).exists()] == []
