"""The Pythons of this machine, and the sensors as an ordinary user would run them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import toolkit
from tests.needs import need, require_root

NOBODY = 65534

_SENSORS = ("__init__.py", "_version.py", "errors.py", "sensors")


def interpreters() -> list[Path]:
    """Every CPython from 3.8 on in the places where they are kept, one a version, this one among them."""
    home = Path.home()
    places = [
        (Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions", "3.*/bin/python3"),
        (home / ".local/share/uv/python", "cpython-3.*/bin/python3"),
        (Path("/usr/bin"), "python3.[0-9]*[0-9]"),
        (Path("/usr/local/bin"), "python3.[0-9]*[0-9]"),
    ]
    found = {sys.version_info[:2]: Path(sys.executable)}
    for folder, pattern in places:
        if not os.access(folder, os.R_OK | os.X_OK):
            continue
        for path in sorted(folder.glob(pattern)):
            version = _version(path)
            if version is not None and version >= (3, 8):
                found.setdefault(version, path)
    return [found[version] for version in sorted(found)]


def _version(python: Path) -> tuple[int, int] | None:
    ask = "import sys; print(*sys.version_info[:2]) if sys.implementation.name == 'cpython' else None"
    asked = subprocess.run([python, "-S", "-c", ask], capture_output=True, text=True, check=False)
    words = asked.stdout.split()
    return (int(words[0]), int(words[1])) if len(words) == 2 else None


@contextlib.contextmanager
def carried() -> Iterator[Path]:
    """A folder that anyone may enter, with the sensors in it as a guest would get them, and nothing else of the toolkit."""
    package = Path(toolkit.__file__).parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "toolkit").mkdir()
        for part in _SENSORS:
            if (package / part).is_dir():
                shutil.copytree(package / part, folder / "toolkit" / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(package / part, folder / "toolkit" / part)
        yield folder


def as_nobody(code: str, *arguments: str) -> str:
    """What a piece of Python prints that runs as an ordinary user, with the sensors and a Python that this user may start."""
    require_root()
    ordinary = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    for python in [Path(sys.executable), Path("/usr/bin/python3")]:
        with contextlib.suppress(OSError):
            if subprocess.run([python, "-S", "-c", "pass"], check=False, capture_output=True, **ordinary).returncode == 0:
                break
    else:
        need(False, "a Python that an ordinary user may start")
    with carried() as folder:
        command = [python, "-S", "-W", "error", "-c", code, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **ordinary)
    assert done.returncode == 0, done.stderr
    return done.stdout
