"""The agent as one file that any Python from 3.8 on runs, and how systemd starts it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

__all__ = ["AGENT_FILES", "agent_pyz", "unit"]

#: What travels into a guest, below the package: the standard library is all that it needs there.
AGENT_FILES = (
    "__init__.py",
    "_version.py",
    "errors.py",
    "filesystems.py",
    "mounts.py",
    "sensors/*.py",
    *(
        f"guests/{name}.py"
        for name in ("__init__", "agent", "introduction", "jobs", "layouts", "leave", "port", "ring", "scratch_disk", "wire")
    ),
)

_MAIN = "import sys\nfrom toolkit.guests.agent import main\nsys.exit(main())\n"
# The oldest time that a zip file knows: the same sources give the same bytes.
_WHEN = (1980, 1, 1, 0, 0, 0)

# No limit of memory, no folders and no priority of its own: what it measures with leave would be measured under them.
_UNIT = """\
[Unit]
Description=virt-toolkit agent: tells the host about this machine's entropy pool
ConditionPathExists={pyz}

[Service]
ExecStart={python} {pyz}{config}
Restart=on-failure
RestartSec=5
TasksMax=64
NoNewPrivileges=true

[Install]
WantedBy=multi-user.target
"""


def agent_pyz() -> bytes:
    """The agent as one file, for ``python3 agent.pyz``.

    Returns
    -------
    bytes
        A zip file with a first line for the shell; the same bytes for the same sources.

    Examples
    --------
    >>> agent_pyz().startswith(b"#!/usr/bin/env python3")
    True
    """
    package = Path(__file__).resolve().parent.parent
    held = io.BytesIO()
    held.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(held, "a", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, "__main__.py", _MAIN)
        for pattern in AGENT_FILES:
            for path in sorted(package.glob(pattern)):
                _put(archive, f"{package.name}/{path.relative_to(package)}", path.read_text(encoding="utf-8"))
    return held.getvalue()


def unit(python: str, pyz: str, config: str | None) -> str:
    """A systemd unit that runs the agent.

    Parameters
    ----------
    python, pyz, config : str
        Paths in the guest; without a configuration the agent does nothing for its host but look and tell.

    Examples
    --------
    >>> "ExecStart=/usr/bin/python3 /opt/agent.pyz" in unit("/usr/bin/python3", "/opt/agent.pyz", None)
    True
    """
    words = [_quoted(python), _quoted(pyz), "" if config is None else f" --config {_quoted(config)}"]
    return _UNIT.format(python=words[0], pyz=words[1], config=words[2])


def _quoted(path: str) -> str:
    """A path as systemd reads it: percent and dollar signs doubled, and quoted where it must be."""
    doubled = path.replace("%", "%%").replace("$", "$$")
    if not any(letter in doubled for letter in " \t\"'\\;"):
        return doubled
    return '"' + doubled.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _put(archive: zipfile.ZipFile, name: str, text: str) -> None:
    entry = zipfile.ZipInfo(name, _WHEN)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, text)
