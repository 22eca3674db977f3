"""What a scratch folder could leave on the machine, found without its code: mounts, loop devices, files, processes."""

from __future__ import annotations

import os
from pathlib import Path


def traces(root: Path) -> list[str]:
    """Everything of the machine that names a folder, and everything in it."""
    name = str(root.resolve())
    found = [f"mount: {line}" for line in Path("/proc/mounts").read_text(errors="surrogateescape").splitlines() if name in line]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if name in backing.read_text(errors="surrogateescape"):
                found.append(f"loop device: {backing}")
        except OSError:
            # Detached between the listing and the look.
            continue
    found += [f"file: {path}" for path in sorted(root.rglob("*"))]
    return found + [f"process: {process}" for process in processes_in(root)]


def processes_in(root: Path) -> list[str]:
    """Processes, but for this one, that have something in a folder open, or name it in their command."""
    name = os.fsencode(root.resolve())
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes()
            opened = [os.fsencode(os.readlink(link)) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if int(process.name) != os.getpid() and (name in said or any(path.startswith(name) for path in opened)):
            found.append(f"{process.name}: {said!r}")
    return found
