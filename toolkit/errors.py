"""Every error and warning of the toolkit, and nothing else.

Each carries two sentences: ``what`` happened and to what, and the ``remedy``: what to do next. The command line prints both and
exits with 1 (2 for :class:`UsageError`). This file also travels into guests: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

__all__ = [
    "BusyWarning",
    "DamagedFileWarning",
    "GuestError",
    "LabError",
    "NotMeasuredWarning",
    "ReportError",
    "ScratchError",
    "StoreError",
    "TableError",
    "ToolkitError",
    "ToolkitWarning",
    "UnavailableError",
    "UsageError",
]


class ToolkitError(Exception):
    """Something the user can understand and act on.

    Parameters
    ----------
    what : str
        What happened, and to what.
    remedy : str
        What to do next; may be empty where nothing can be done.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return "{}. {}".format(self.what.rstrip("."), self.remedy) if self.remedy else self.what


class UsageError(ToolkitError, ValueError):
    """An argument that cannot be meant: exit status 2 on the command line, a ``ValueError`` in Python."""


class UnavailableError(ToolkitError):
    """This machine, kernel or file system cannot do what was asked; asking again will not help."""


class TableError(ToolkitError, ValueError):
    """A frame does not fit its table; ``column`` is the one at fault (None when it is the frame as a whole)."""

    def __init__(self, what: str, remedy: str = "", column: str | None = None) -> None:
        super().__init__(what, remedy)
        self.column = column


class StoreError(ToolkitError):
    """A store cannot be opened, read or appended to."""


class ScratchError(ToolkitError):
    """A scratch file system could not be made, mounted or removed."""


class LabError(ToolkitError):
    """A lab guest could not be booted, ended badly, or does not do what it is told."""


class GuestError(ToolkitError):
    """A guest or its domain could not be asked, reached or changed; the message names which."""


class ReportError(ToolkitError):
    """A notebook could not be run or a page could not be written."""


class ToolkitWarning(UserWarning):
    """The parent of every warning: the result is there, and something about it must be known."""


class DamagedFileWarning(ToolkitWarning):
    """A file of a store cannot be read; it was left out and the rest was read."""


class NotMeasuredWarning(ToolkitWarning):
    """Something asked for was not measured; the warning says what, why and what to do."""


class BusyWarning(ToolkitWarning):
    """Another allocation experiment measures on this machine; the warning says whose, and whether this one waits or goes on."""
