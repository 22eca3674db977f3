"""Archives that a kernel unpacks as its first root file system: cpio(5), the "new ASCII format" (newc).

Documentation/driver-api/early-userspace/buffer-format.rst of the kernel describes them. Archives that follow one another become one
tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

__all__ = ["BLOCK_BYTES", "archive"]

#: An archive that follows another begins at a whole block.
BLOCK_BYTES = 512

_MAGIC = b"070701"
_FOLDER, _FILE = 0o40755, 0o100755
_ALIGNMENT = 4
_TRAILER = "TRAILER!!!"


def archive(files: Mapping[str, bytes]) -> bytes:
    """An archive of files, which all may be run, and of the folders that they lie in.

    Parameters
    ----------
    files : mapping of str to bytes
        By path, without a leading slash.

    Examples
    --------
    >>> archive({"lab/init": b"#!/bin/sh"}).count(_MAGIC)
    3
    """
    return b"".join(_members(files))


def _members(files: Mapping[str, bytes]) -> Iterator[bytes]:
    parents = {str(parent): len(parent.parts) for name in files for parent in PurePosixPath(name).parents if parent.parts}
    inode = 0
    for inode, name in enumerate(sorted(parents, key=lambda name: parents[name]), 1):
        yield _member(name, b"", _FOLDER, inode)
    for number, (name, content) in enumerate(files.items(), inode + 1):
        yield _member(name, content, _FILE, number)
    yield _member(_TRAILER, b"", 0, 0)


def _member(name: str, content: bytes, mode: int, inode: int) -> bytes:
    path = name.encode("ascii") + b"\0"
    owner = modified = device = checksum = 0
    links = 1
    fields = [inode, mode, owner, owner, links, modified, len(content), device, device, device, device, len(path), checksum]
    return _aligned(_MAGIC + b"".join(b"%08X" % each for each in fields) + path) + _aligned(content)


def _aligned(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)
