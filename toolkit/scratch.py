"""File systems made for a measurement, on image files, and gone after it.

All images are of one size, in one folder, written full of zeroes before anything is made on them, and attached past the page cache
of their backing; no file system trims them. So each is measured on the same backing. What can be made is said in
:mod:`toolkit.filesystems`; the folder and its certain removal are :mod:`toolkit.scratch_folder`'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolkit import mounts
from toolkit.errors import NotMeasuredWarning, UnavailableError
from toolkit.filesystems import FILESYSTEMS, FileSystem, can_make, filesystem, find_program
from toolkit.images import RESERVE_BYTES, check_space, fill_again, memory_available_bytes, write_image
from toolkit.progress import Progress, silent
from toolkit.scratch_folder import ScratchFolder, scratch_root
from toolkit.units import bytes_text

__all__ = [
    "LeftOut",
    "Scratch",
    "ScratchFilesystem",
    "check_space",
    "memory_available_bytes",
    "scratch_filesystems",
    "scratch_root",
]

_MIB = 1024 * 1024

# How long a remount waits for whoever is using the file system.
_PATIENCE_S = 2.0
_PAUSE_S = 0.01

# No file system has this number: dev_t is unsigned.
_UNMOUNTED = -1


@dataclass(frozen=True)
class LeftOut:
    """Something that could not be measured: a row of the table ``capabilities``.

    Attributes
    ----------
    capability : str
        What could not be measured.
    detail : str
        Why.
    remedy : str or None
        What to do about it; None where nothing can be done.
    """

    capability: str
    detail: str
    remedy: str | None = None

    def row(self) -> dict[str, str | bool | None]:
        """As a row of ``capabilities``."""
        return {"capability": self.capability, "available": False, "detail": self.detail, "remedy": self.remedy}

    def warning(self) -> NotMeasuredWarning:
        """As a warning, for whoever asked for it."""
        said = f"{self.capability} was not measured: {self.detail.rstrip('.')}. {self.remedy or ''}"
        return NotMeasuredWarning(said.rstrip())


@dataclass
class ScratchFilesystem:
    """A mounted scratch file system.

    Attributes
    ----------
    made : FileSystem
        Its kind.
    point : Path
        Where it is mounted.
    source : str
        What is mounted: its loop device, or ``tmpfs``.
    options : tuple of str
        What it was mounted with.
    direct_io : bool
        Whether its loop device goes past the page cache of the backing.
    device : int
        Its ``st_dev`` while it is mounted; -1 while it is not, because it is not yet, or because a remount failed half way.
    """

    made: FileSystem
    point: Path
    source: str
    options: tuple[str, ...]
    direct_io: bool = True
    device: int = field(default=_UNMOUNTED, repr=False)

    @property
    def name(self) -> str:
        """The toolkit's name for it."""
        return self.made.name

    @property
    def mkfs_options(self) -> str | None:
        """How it was made; None where nothing is made (tmpfs)."""
        return None if self.made.mkfs is None else " ".join(self.made.mkfs_options)

    @property
    def mount_options(self) -> str | None:
        """How it is mounted, in the kernel's words; None while it is not."""
        found = mounts.mounts_below(self.point)
        return found[0].options if found else None

    def mount(self) -> None:
        """Mount it.

        Raises
        ------
        OSError
            If the kernel refuses.
        """
        mounts.mount(self.source, self.point, self.made.kernel_type, self.options)
        self.device = self.point.stat().st_dev

    def check(self) -> None:
        """Make sure that it is still what is mounted at its place: otherwise what lies below would be measured in its name.

        Raises
        ------
        OSError
            ENODEV, if somebody unmounted it.
        """
        if self.point.stat().st_dev != self.device:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), str(self.point))

    def remount(self) -> None:
        """Unmount it, which writes everything out; drop the machine's caches; mount it again.

        A file system whose disk answered no more is not given up: the next remount tries again, and says what the disk says then.

        Raises
        ------
        OSError
            ENODEV if somebody else unmounted it, EBUSY if somebody keeps using it, whatever else the kernel says.
        """
        if self.device != _UNMOUNTED:
            self._unmount()
            self.device = _UNMOUNTED
        mounts.drop_caches()
        self.mount()

    def _unmount(self) -> None:
        try:
            self.check()
        except OSError as error:
            # One that shut itself down after an error of its disk says so even when it is only looked at. It is still mounted.
            if error.errno == errno.ENODEV:
                raise
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                mounts.unmount(self.point)
                return
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)


@dataclass
class Scratch:
    """Scratch file systems that were made, by name, and what was left out."""

    filesystems: dict[str, ScratchFilesystem]
    left_out: list[LeftOut]


@contextlib.contextmanager
def scratch_filesystems(
    names: Sequence[str] | None = None,
    size_bytes: int = 512 * _MIB,
    *,
    root: Path | None = None,
    progress: Progress = silent,
) -> Iterator[Scratch]:
    """Make and mount scratch file systems; they are gone after the ``with`` block, however it ends.

    Parameters
    ----------
    names : sequence of str, optional
        Names as in :data:`toolkit.filesystems.FILESYSTEMS`; by default all of them.
    size_bytes : int
        The size of each. Raised to what the most demanding of them needs, so that all stay the same.
    root : Path, optional
        The folder for the images; by default ``$TOOLKIT_SCRATCH``, else /var/tmp.
    progress : Progress
        Told of the bytes written.

    Yields
    ------
    Scratch
        What this machine cannot make is in ``left_out``, with the reason and the remedy.

    Raises
    ------
    UnavailableError
        If none of them can be made here.
    ScratchError
        If there is too little space; nothing has been written then.
    UsageError
        If there is no file system of such a name.
    """
    wanted = [filesystem(name) for name in dict.fromkeys(FILESYSTEMS if names is None else names)]
    able, left_out = _able(wanted)
    size_bytes = _whole_mib(max([size_bytes, *(made.smallest_bytes for made in able)]))
    able, too_big = _fitting_memory(able, size_bytes)
    left_out += too_big
    if not able:
        _refuse(left_out)
    # The handles go first: a loop device is let go at its last close.
    with ScratchFolder(root) as folder, contextlib.ExitStack() as handles:
        on_images = [made for made in able if made.needs_loop]
        check_space(folder, size_bytes * len(on_images), f"{len(on_images)} images of {bytes_text(size_bytes)}")
        for position, made in enumerate(on_images):
            words = f"writing the image for {made.name}"
            write_image(_image(folder, made), size_bytes, position, len(on_images), words, progress)
        scratch = Scratch({}, left_out)
        for made in able:
            try:
                scratch.filesystems[made.name] = _made(made, folder, size_bytes, handles)
            except OSError as error:
                detail = f"{made.name} could not be made or mounted: {error.strerror or error}"
                scratch.left_out.append(LeftOut(_capability(made), detail))
        if not scratch.filesystems:
            _refuse(scratch.left_out)
        _note_cached_loops(scratch)
        yield scratch


def _whole_mib(size_bytes: int) -> int:
    """Rounded up: direct I/O takes whole blocks only."""
    return -(-size_bytes // _MIB) * _MIB


def _capability(made: FileSystem) -> str:
    return f"allocation on {made.name}"


def _able(wanted: Sequence[FileSystem]) -> tuple[list[FileSystem], list[LeftOut]]:
    able, left_out = [], []
    for made in wanted:
        support = can_make(made.name)
        if support.available:
            able.append(made)
        else:
            left_out.append(LeftOut(_capability(made), support.detail, support.remedy))
    return able, left_out


def _fitting_memory(able: list[FileSystem], size_bytes: int) -> tuple[list[FileSystem], list[LeftOut]]:
    """Leave out what would fill the machine's memory."""
    free = memory_available_bytes()
    if free >= size_bytes + RESERVE_BYTES:
        return able, []
    detail = (
        f"{bytes_text(size_bytes)} of memory beside a reserve of {bytes_text(RESERVE_BYTES)} are needed, {bytes_text(free)} free"
    )
    remedy = "Allocate smaller files (size), or free memory."
    left_out = [LeftOut(_capability(made), detail, remedy) for made in able if not made.needs_loop]
    return [made for made in able if made.needs_loop], left_out


def _refuse(left_out: Sequence[LeftOut]) -> None:
    details = "; ".join(dict.fromkeys(found.detail for found in left_out))
    remedies = " ".join(dict.fromkeys(found.remedy for found in left_out if found.remedy))
    raise UnavailableError(f"No scratch file system can be made here: {details}", remedies)


def _image(folder: Path, made: FileSystem) -> Path:
    return folder / f"{made.name}.image"


def _made(made: FileSystem, folder: Path, size_bytes: int, handles: contextlib.ExitStack) -> ScratchFilesystem:
    point = folder / made.name
    point.mkdir(mode=0o700)
    if not made.needs_loop:
        options = (*made.mount_options, f"size={size_bytes}", "mode=0700")
        mounted = ScratchFilesystem(made, point, made.kernel_type, options)
    else:
        image = _image(folder, made)
        _mkfs(made, image)
        fill_again(image)
        loop = mounts.attach(image, handles)
        mounted = ScratchFilesystem(made, point, str(loop.path), made.mount_options, loop.direct_io)
    mounted.mount()
    return mounted


def _mkfs(made: FileSystem, image: Path) -> None:
    """Make the file system on its image file; mkfs is a child that may outlive us, and then writes to a file without a name."""
    name = made.mkfs or ""
    done = subprocess.run(
        [find_program(name) or name, *made.mkfs_options, str(image)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = " ".join(done.stdout.split()) or f"status {done.returncode}"
        raise OSError(errno.EIO, f"{name} failed: {said[:500]}")


def _note_cached_loops(scratch: Scratch) -> None:
    cached = [found.name for found in scratch.filesystems.values() if not found.direct_io]
    if cached:
        scratch.left_out.append(
            LeftOut(
                "loop devices with direct I/O",
                f"the images of {', '.join(cached)} go through the page cache of their backing, which cannot do direct I/O: "
                "times on them are those of memory rather than of the disk",
                "Set TOOLKIT_SCRATCH to a folder on ext4 or xfs.",
            )
        )
