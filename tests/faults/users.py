"""An ordinary user, as the kernel knows one: no capability, no other group, no entry in /etc/passwd, nothing of root's to read.

The Python of the tests may lie in root's own home. It is then shown to that user in a mount namespace of his process alone: root's
home is covered there, and of it he sees the Python and this checkout and no more.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.needs import require_root, require_tool

USER = 54321
CHECKOUT = Path(__file__).parents[2]


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """A home of the user, in a folder that he may enter."""
    require_root()
    folder = Path(tempfile.mkdtemp(prefix="u-"))
    try:
        folder.chmod(0o755)
        (folder / "home").mkdir(mode=0o700)
        (folder / "seen").mkdir()
        os.chown(folder / "home", USER, USER)
        yield folder / "home"
    finally:
        shutil.rmtree(folder)


def ordinary(place: Path, umask: int = 0) -> list[str]:
    """Words before a command that make it the user's; ``place`` is his home."""
    lines = ["umask 022"]
    seen = [path.resolve() for path in map(Path, (sys.base_prefix, sys.prefix, CHECKOUT))]
    covered = sorted({closed for path in seen if (closed := _closed(path)) is not None})
    hidden = [path for path in seen if _closed(path) is not None]
    for number, path in enumerate(hidden):
        spot = shlex.quote(str(place.parent / "seen" / str(number)))
        lines += [f"mkdir -p {spot}", f"mount --bind {shlex.quote(str(path))} {spot}"]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(folder))}" for folder in covered]
    for number, path in enumerate(hidden):
        spot = shlex.quote(str(place.parent / "seen" / str(number)))
        lines += [f"mkdir -p {shlex.quote(str(path))}", f"mount --bind {spot} {shlex.quote(str(path))}"]
    user = f"--reuid={USER} --regid={USER} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs"
    lines.append(f"umask {umask:03o}")
    lines.append(f'exec {require_tool("setpriv")} {user} "$@"')
    return [require_tool("unshare"), "--mount", "sh", "-e", "-c", "\n".join(lines), "sh"]


def _closed(path: Path) -> Path | None:
    """The topmost folder above a path that an ordinary user may not enter."""
    return next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH), None)


def surroundings(place: Path) -> dict[str, str]:
    """The environment of the user: nothing of root's but the words that the tests themselves set."""
    (place / "tmp").mkdir(exist_ok=True)  # short: a socket's path may not be long
    os.chown(place / "tmp", USER, USER)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "JUPYTER_", "IPYTHON", "MPL", "SUDO_"))
    }
    return kept | {"HOME": str(place), "TOOLKIT_SCRATCH": str(place / "tmp")}


def everything(folder: Path) -> dict[str, os.stat_result]:
    """All that lies in a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.lstat() for path in folder.rglob("*")}


#: Where fontconfig keeps what it knows of the system's fonts, for a user who may not read the system's own index.
_FONTS = ".cache/fontconfig"


def open_to_others(folder: Path) -> list[str]:
    """What in a folder is anybody else's business too, but for a user's index of fonts: the system's own library makes it."""
    return [
        f"{name}: {stat.filemode(found.st_mode)}"
        for name, found in everything(folder).items()
        if not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o077 and not name.startswith(_FONTS)
    ]


def not_of(user: int, folder: Path) -> list[str]:
    """What in a folder is not this user's."""
    return [f"{name}: {found.st_uid}" for name, found in everything(folder).items() if found.st_uid != user]
