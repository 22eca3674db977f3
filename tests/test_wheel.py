"""The built wheel, in an environment that has nothing else, works: what a user installs is what was tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ["00_start_here.ipynb", "01_fragmentation.ipynb", "02_starvation.ipynb", "03_throughput.ipynb"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an empty environment with the wheel in it, at the versions of the lock."""
    folder = tmp_path_factory.mktemp("installed")
    pins = re.findall(r"^([a-z0-9_.-]+==[^\\\n]+)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pin.strip() for pin in pins) + "\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, capture_output=True)
    bin_folder = folder / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install", "--quiet"]
    # What is not imported here need not be compiled.
    subprocess.run([*pip, "--no-compile", "--constraint", str(constraints), str(wheel)], check=True, capture_output=True)
    return bin_folder


def _run(command: list[str], cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_installed_wheel_runs_doctor(installed: Path, tmp_path: Path) -> None:
    found = json.loads(_run([str(installed / "toolkit"), "doctor", "--json"], tmp_path))
    assert {"capability", "available", "detail", "remedy"} == set(found[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_installed_wheel_carries_notebooks_and_reference_data(installed: Path, tmp_path: Path) -> None:
    code = (
        "import json, toolkit; from toolkit import share;"
        "assert '_share' in str(share.notebooks());"
        "print(json.dumps([sorted(p.name for p in share.notebooks().glob('*.ipynb')),"
        " len(toolkit.open_store(share.reference_store(), create=False).read('allocations'))]))"
    )
    notebooks, allocations = json.loads(_run([str(installed / "python"), "-c", code], tmp_path))
    assert notebooks == OURS
    assert allocations > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_installed_wheel_writes_a_report_of_the_data_it_carries(installed: Path, tmp_path: Path) -> None:
    said = _run([str(installed / "toolkit"), "report", "--out", "pages"], tmp_path)
    assert "reference data" in said
    assert "reference data" in (tmp_path / "pages" / "index.html").read_text(encoding="utf-8")
    pages = {path.name for path in (tmp_path / "pages").iterdir()}
    assert pages == {"index.html", *(name.replace(".ipynb", ".html") for name in OURS)}
    assert [path.name for path in tmp_path.iterdir()] == ["pages"]
