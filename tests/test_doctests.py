"""The examples in the docstrings run, and every public name has one. Run against the package as it is installed."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import toolkit
from tests.needs import require_root

pytestmark = pytest.mark.machine

#: Modules whose examples mount file systems.
AS_ROOT = {"toolkit.experiments.allocation"}
MODULES = ["toolkit", *(found.name for found in pkgutil.walk_packages(toolkit.__path__, "toolkit."))]


def _is_function(name: str) -> bool:
    return not inspect.ismodule(getattr(toolkit, name)) and not name.startswith("__")


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_of_a_module_run(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if name in AS_ROOT:
        require_root()
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in toolkit.__all__ if _is_function(name)])
def test_a_public_name_has_an_example_that_runs(name: str) -> None:
    public = getattr(toolkit, name)
    documented = "\n".join(filter(None, [inspect.getdoc(public), inspect.getdoc(sys.modules[public.__module__])]))
    if inspect.isclass(public):
        documented += "".join(inspect.getdoc(method) or "" for _, method in inspect.getmembers(public, inspect.isfunction))
        documented += inspect.getdoc(toolkit.open_store) or ""
    examples = doctest.DocTestParser().get_examples(documented)
    assert examples, name
    assert not any(example.options.get(doctest.SKIP) for example in examples), name


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip() and not line.startswith("import")]) == 4
    shorter = example.replace("duration_s=10", "duration_s=0.5")
    done = subprocess.run([sys.executable, "-W", "error", "-c", shorter], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "posix_fallocate" in done.stdout
