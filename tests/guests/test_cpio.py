"""Archives of a first root file system: what busybox, as a stranger to this code, unpacks is what was packed."""

from __future__ import annotations

import stat
import subprocess
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.needs import require_tool
from toolkit.guests.cpio import BLOCK_BYTES, archive

NAME = st.text("abcXYZ019._-", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))
# Names of folders and of files differ in their first letter, so that none is both.
PATH = st.builds(lambda folders, name: "/".join([*(f"d{each}" for each in folders), f"f{name}"]), st.lists(NAME, max_size=3), NAME)


def unpacked(packed: bytes, folder: Path) -> dict[str, tuple[int, bytes | None]]:
    """What lies there after unpacking: mode, and content of what is no folder."""
    done = subprocess.run([require_tool("busybox"), "cpio", "-i", "-d"], input=packed, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, None if path.is_dir() else path.read_bytes())
        for path in folder.rglob("*")
    }


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(PATH, st.binary(max_size=600), max_size=6))
def test_what_busybox_unpacks_is_what_was_packed(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = unpacked(archive(files), Path(folder))
    assert {path: content for path, (_, content) in found.items() if content is not None} == files
    parents = {str(parent) for path in files for parent in Path(path).parents if parent.parts}
    assert {path for path, (_, content) in found.items() if content is None} == parents
    assert {stat.S_IMODE(mode) for mode, _ in found.values()} <= {0o755}
    assert all(stat.S_ISREG(mode) or stat.S_ISDIR(mode) for mode, _ in found.values())


def test_archives_that_follow_one_another_are_each_whole(tmp_path: Path) -> None:
    first, second = archive({"one/a": b"first"}), archive({"one/b": b"second", "two": b"x" * 5000})
    filled = first + bytes(-len(first) % BLOCK_BYTES)
    assert unpacked(filled, tmp_path)["one/a"][1] == b"first"
    assert filled.endswith(bytes(-len(first) % BLOCK_BYTES))
    # Busybox stops there; a kernel makes one tree of both: tests/guests/test_tiny.py boots such a pair.
    found = unpacked(second, tmp_path)
    assert found["one/a"][1] == b"first"
    assert found["one/b"][1] == b"second"
    assert found["two"][1] == b"x" * 5000


def test_an_archive_of_nothing_unpacks_to_nothing(tmp_path: Path) -> None:
    assert unpacked(archive({}), tmp_path) == {}
