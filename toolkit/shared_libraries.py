"""Which shared libraries a program is loaded with, read from its ELF headers: nothing of it is run, and no other tool is needed.

It goes as ld.so(8) goes on a Debian: the interpreter that the program names, and each library from the usual folders. Programs
with search paths of their own (DT_RUNPATH) are not for here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UnavailableError

__all__ = ["Elf", "files_of_program", "read_elf"]

# elf(5): 64-bit, little endian.
_IDENT = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5
#: More than any real file of this kind has.
_MOST_BYTES, _MOST_ENTRIES, _LONGEST_NAME = 64 * 2**20, 4096, 4096

_FOLDERS = ("lib", "usr/lib", "lib64", "usr/lib64")


@dataclass(frozen=True)
class Elf:
    """What a program or library says about how it is loaded.

    Attributes
    ----------
    machine : int
        The processor, e_machine.
    interpreter : str or None
        The path of the loader; None in a library and a static program.
    needed : tuple of str
        The names of the libraries, such as ``libc.so.6``.
    """

    machine: int
    interpreter: str | None
    needed: tuple[str, ...]


def read_elf(path: Path) -> Elf:
    """Read what a file's ELF headers say.

    Raises
    ------
    UnavailableError
        If it cannot be read, or is no 64-bit little-endian ELF file.

    Examples
    --------
    >>> read_elf(Path("/bin/true")).needed  # doctest: +SKIP
    ('libc.so.6',)
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES)
        return _parsed(data)
    except OSError as error:
        raise UnavailableError(f"{path} cannot be read: {error.strerror}", "Fetch it anew: toolkit lab fetch.") from error
    except (struct.error, ValueError, OverflowError) as error:
        raise UnavailableError(f"{path} is no 64-bit ELF file", "Use a program for this machine.") from error


def _parsed(data: bytes) -> Elf:
    if not data.startswith(_IDENT):
        raise ValueError
    header = _HEADER.unpack_from(data)
    machine, table, size, count = header[2], header[5], header[9], header[10]
    segments = [_SEGMENT.unpack_from(data, table + size * number) for number in range(count)]
    loads = [(virtual, offset, length) for kind, _, offset, virtual, _, length, _, _ in segments if kind == _PT_LOAD]
    interpreter, entries = None, []
    for kind, _, offset, _, _, length, _, _ in segments:
        if kind == _PT_INTERP:
            interpreter = _name(data, offset)
        elif kind == _PT_DYNAMIC:
            entries = list(_entries(data[offset : offset + length]))
    strings = next((value for tag, value in entries if tag == _DT_STRTAB), None)
    needed = [value for tag, value in entries if tag == _DT_NEEDED]
    if needed and strings is None:
        raise ValueError
    table = _offset(loads, strings) if strings is not None else 0
    return Elf(machine, interpreter, tuple(_name(data, table + value) for value in needed))


def _entries(section: bytes) -> Iterator[tuple[int, int]]:
    for number in range(min(_MOST_ENTRIES, len(section) // _ENTRY.size)):
        tag, value = _ENTRY.unpack_from(section, number * _ENTRY.size)
        if tag == _DT_NULL:
            return
        yield tag, value


def _offset(loads: Sequence[tuple[int, int, int]], address: int) -> int:
    """Where in the file it is that is loaded at an address."""
    for virtual, offset, length in loads:
        if virtual <= address < virtual + length:
            return offset + address - virtual
    raise ValueError


def _name(data: bytes, offset: int) -> str:
    end = data.index(b"\0", offset, offset + _LONGEST_NAME)
    return data[offset:end].decode("ascii")


def files_of_program(program: Path, at: str, roots: Sequence[Path]) -> dict[str, Path]:
    """All files that a program is loaded from: itself, its loader, and the libraries that it and they need.

    Parameters
    ----------
    program : Path
        The program here.
    at : str
        Its path where it is to run.
    roots : sequence of Path
        Where the libraries are looked for, in this order: folders in which there is a lib or usr/lib.

    Returns
    -------
    dict
        The path of each file where the program is to run, such as ``/usr/lib/x86_64-linux-gnu/libc.so.6``, and the file here, links
        followed. The loader finds the libraries there without a cache of its own.

    Raises
    ------
    UnavailableError
        If the program cannot be read, or a library is not there.
    """
    elf = read_elf(program)
    files = {at: program.resolve()}
    if elf.interpreter is not None:
        files[elf.interpreter] = _first([root / elf.interpreter.lstrip("/") for root in roots], elf.interpreter, program)
    left, seen = list(elf.needed), set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        if elf.interpreter is not None and Path(elf.interpreter).name == name:
            continue  # the loader is a library too
        place, found = _library(name, elf.machine, roots, program)
        files[place] = found
        left += read_elf(found).needed
    return files


def _library(name: str, machine: int, roots: Sequence[Path], program: Path) -> tuple[str, Path]:
    if "/" in name:
        raise UnavailableError(f"{program} wants its library at {name}", "Use a program as Debian builds them.")
    for root in roots:
        for folder in _FOLDERS:
            # Debian's folders of an architecture first: that of another one may stand in plain lib.
            for path in (*sorted((root / folder).glob(f"*-linux-gnu*/{name}")), root / folder / name):
                if path.is_file() and _fits(path, machine):
                    return f"/{path.relative_to(root)}", path.resolve()
    raise UnavailableError(f"{program} needs {name}, which is not here", "Fetch it anew: toolkit lab fetch --remove --feeders.")


def _fits(path: Path, machine: int) -> bool:
    try:
        return read_elf(path).machine == machine
    except UnavailableError:
        return False


def _first(paths: Sequence[Path], name: str, program: Path) -> Path:
    for path in paths:
        if path.is_file():
            return path.resolve()
    raise UnavailableError(f"{program} needs the loader {name}, which is not here", "Use programs of this machine's own suite.")
