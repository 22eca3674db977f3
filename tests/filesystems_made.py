"""Real file systems for tests: each kind that can be made, once a module."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import need, require_root
from toolkit.filesystems import FILESYSTEMS
from toolkit.scratch import ScratchFilesystem, scratch_filesystems

MIB = 1024 * 1024

#: A kind beside the toolkit's own: ext4 that keeps small files in their inodes.
INLINE = "ext4-inline"


@contextlib.contextmanager
def mounted(names: list[str], size_bytes: int, root: Path) -> Iterator[dict[str, ScratchFilesystem]]:
    """File systems of those names, which must all be there."""
    require_root()
    ext4 = FILESYSTEMS["ext4"]
    with pytest.MonkeyPatch.context() as patch:
        inline = dataclasses.replace(ext4, name=INLINE, mkfs_options=(*ext4.mkfs_options, "-O", "inline_data", "-I", "256"))
        patch.setitem(FILESYSTEMS, INLINE, inline)
        with scratch_filesystems(names, size_bytes, root=root) as made:
            missing = "; ".join(
                f"{left.capability}: {left.detail}" for left in made.left_out if "direct I/O" not in left.capability
            )
            need(not missing, missing)
            yield made.filesystems
