"""The house itself: its files agree with one another, and the lock names no address."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
#: What conda-forge calls a distribution of ours; the others have the same name in both worlds.
CONDA_NAMES = {"dask": "dask-core", "matplotlib": "matplotlib-base", "nbconvert": "nbconvert-core"}
#: The locks, and how many distributions each holds at the least.
_LOCKS = [("requirements.lock", 50), ("requirements-bench.lock", 2), ("requirements-libvirt.lock", 1)]


def _split(requirement: str) -> tuple[str, str]:
    match = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*(.*)", requirement)
    assert match is not None, requirement
    return match[1].lower(), match[2].replace(" ", "")


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_environment_yml_says_the_same_as_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {("python", project["requires-python"])}
    for requirement in project["dependencies"]:
        name, versions = _split(requirement)
        ours.add((CONDA_NAMES.get(name, name), versions))
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    through_pip = [each for part in conda if isinstance(part, dict) for each in part["pip"]]
    theirs = {_split(each) for each in [part for part in conda if isinstance(part, str)] + through_pip} - {("pip", "")}
    assert theirs == ours


@pytest.mark.parametrize(("lock", "least"), _LOCKS)
def test_a_lock_has_a_hash_for_everything_and_no_address(lock: str, least: int) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert "index-url" not in text
    assert "find-links" not in text
    pinned = re.split(r"\n(?=[a-z0-9])", text)
    assert len(pinned) >= least
    for block in pinned:
        assert re.match(r"[a-z0-9_.\[\]-]+==", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]


def test_the_lock_holds_every_dependency_of_the_project() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = list(data["project"]["dependencies"])
    peers = data["dependency-groups"].pop("bench")
    for group in data["dependency-groups"].values():
        wanted += group
    extra = data["project"]["optional-dependencies"]["libvirt"]
    locks = (("requirements.lock", wanted), ("requirements-bench.lock", peers), ("requirements-libvirt.lock", extra))
    for lock, requirements in locks:
        locked = set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / lock).read_text(), flags=re.MULTILINE))
        assert {_split(requirement)[0] for requirement in requirements} <= locked
    assert not {"polars"} & set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE))


def test_every_verb_of_the_makefile_is_in_its_help() -> None:
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for verb in phony.split():
        assert re.search(rf"^  make {verb}\s+\S", shown, flags=re.MULTILINE), verb


def test_lab_opens_the_reference_store_where_nothing_was_measured(tmp_path: Path) -> None:
    for store, there in ((tmp_path / "none", False), (ROOT / "data", True)):
        command = ["make", "--dry-run", "lab", f"STORE={store}"]
        planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert (f"--store '{store}'" in planned) is there
        assert "toolkit notebooks" in planned


def test_no_tracked_text_names_a_home_or_a_workplace_path() -> None:
    for path in _tracked():
        if path.suffix in (".png", ".parquet"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for found in re.findall(r"(?<![\w.])/(?:root|work)/[\w.]+", text):
            pytest.fail(f"{path.relative_to(ROOT)} names {found}")


def test_importing_the_package_loads_neither_pandas_nor_numpy() -> None:
    code = "import sys, toolkit; print([m for m in ('pandas', 'numpy', 'pyarrow', 'matplotlib', 'dask') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_a_public_function_is_not_hidden_by_the_module_of_its_name() -> None:
    code = (
        "import toolkit.doctor, toolkit.report, toolkit.store, toolkit; print(callable(toolkit.doctor), callable(toolkit.report))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "True True"


def test_every_public_name_is_there_and_documented() -> None:
    import toolkit

    for name in toolkit.__all__:
        value = getattr(toolkit, name)
        assert value.__doc__, name
    with pytest.raises(AttributeError, match="no_such_name"):
        toolkit.no_such_name  # noqa: B018
