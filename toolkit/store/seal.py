"""A checksum of a file's footer, since Parquet has none.

Pages have checksums of their own. The footer, which says whose rows are where, has none: one wrong byte in it makes a filter pass
over rows without a word, or ends the process (pyarrow 26 does not catch what a column's description throws). So twelve bytes go
between the last page and the footer, where no reader of Parquet looks: ``vtk-seal`` and the footer's CRC-32. A file without them,
of before there were any, is read as it is.
"""

from __future__ import annotations

import os
import zlib

__all__ = ["is_broken", "seal"]

_MARK = b"vtk-seal"
_SEAL_BYTES = len(_MARK) + 4
#: After the footer come its length, in four bytes, and PAR1 (Parquet's format, "File format").
_END = b"PAR1"
_END_BYTES = 4 + len(_END)


def seal(held: int) -> None:
    """Put the checksum into a whole Parquet file that is open for reading and writing."""
    size = os.fstat(held).st_size
    length = int.from_bytes(os.pread(held, 4, size - _END_BYTES), "little")
    begin = size - _END_BYTES - length
    end = os.pread(held, size - begin, begin)
    written = memoryview(_MARK + _checksum(end[:length]) + end)
    while written:
        done = os.pwrite(held, written, begin)
        written, begin = written[done:], begin + done


def is_broken(path: str | os.PathLike[str]) -> bool:
    """Whether a file has a checksum of its footer, and another footer than it had.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    held = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(held).st_size
        end = os.pread(held, _END_BYTES, max(0, size - _END_BYTES))
        length = int.from_bytes(end[:4], "little")
        begin = size - _END_BYTES - length
        if not end.endswith(_END) or begin < _SEAL_BYTES:
            return False  # no Parquet at all, which is for its reader to say
        sealed = os.pread(held, _SEAL_BYTES, begin - _SEAL_BYTES)
        return sealed.startswith(_MARK) and sealed != _MARK + _checksum(os.pread(held, length, begin))
    finally:
        os.close(held)


def _checksum(footer: bytes) -> bytes:
    return zlib.crc32(footer).to_bytes(4, "little")
