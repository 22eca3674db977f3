"""How the command line speaks: progress, tables, JSON, warnings, errors, and what a signal does.

Nothing here knows a command. Text that came from a machine goes through :func:`toolkit.markup.visible` before a terminal sees it,
so that an escape sequence in the name of a host is seen and not obeyed.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.text import Text

from toolkit.errors import ToolkitError, ToolkitWarning, UsageError
from toolkit.markup import visible
from toolkit.progress import Progress, silent
from toolkit.signals import held_back

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress as RichProgress
    from rich.table import Table

__all__ = ["Formats", "bar", "guarded", "live", "refused", "say", "show", "show_json"]

#: How a table's columns are written.
Formats = Mapping[str, Callable[[Any], str]]

#: Letters of one line that are shown; only hostile text is longer.
_LONGEST = 4000
#: The time left is told from what was done in so many seconds: some steps take longer than rich's own 30.
_ESTIMATED_FROM_S = 7 * 86_400.0
#: How wide a table may be where nobody's window says so.
_FILE_WIDTH = 160


def say(*lines: str) -> None:
    """Write lines for people to standard output."""
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text(visible(line, _LONGEST)))


def show_json(value: Any) -> None:
    """Write one JSON document to standard output: a frame as a list of rows, null where a value is missing."""
    if hasattr(value, "columns"):
        value = _rows_of(value)
    sys.stdout.write(json.dumps(value, indent=1, default=_written) + "\n")


@held_back()
def _rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as JSON's own types, every digit kept.

    Not by pandas's ``to_json``: that rounds to ten digits, and its C code crashes when a signal's handler raises within it.
    """

    def known(value: Any) -> Any:
        infinite = isinstance(value, float) and math.isinf(value)  # which JSON has no word for
        return None if infinite or _missing(value) else value

    columns = [[known(value) for value in frame[name].tolist()] for name in frame.columns]
    return [dict(zip(map(str, frame.columns), row, strict=True)) for row in zip(*columns, strict=True)]


def _missing(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _written(value: Any) -> Any:
    """What JSON has no type for: moments in ISO 8601 to the nanosecond, in UTC; numpy's numbers; the rest as text."""
    if hasattr(value, "tz_convert"):
        moment = value if value.tzinfo is None else value.tz_convert(None)
        return moment.isoformat(timespec="nanoseconds") + "Z"
    return value.tolist() if hasattr(value, "tolist") else str(value)


def show(frame: pd.DataFrame, formats: Formats | None = None, most: int = 60) -> None:
    """Write a frame as a table for people.

    Parameters
    ----------
    frame : DataFrame
        Its columns become the table's.
    formats : dict, optional
        How to write a column's values; a missing value is always an en dash.
    most : int
        Rows shown at the most; what is left out is counted under the table.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)
    console.print(_table(frame, formats, most))
    if len(frame) > most:
        console.print(Text(f"… and {len(frame) - most:,} more rows (--json gives all)"))


def _table(frame: pd.DataFrame, formats: Formats | None, most: int) -> Table:
    from pandas.api.types import is_numeric_dtype
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    formats = formats or {}
    for name in frame.columns:
        right = is_numeric_dtype(frame[name]) or name in formats
        made.add_column(str(name), justify="right" if right else "left", overflow="fold", min_width=len(str(name)))
    for row in frame.head(most).itertuples(index=False, name=None):
        made.add_row(*(Text(_cell(value, formats.get(str(name)))) for name, value in zip(frame.columns, row, strict=True)))
    return made


def _cell(value: Any, write: Callable[[Any], str] | None) -> str:
    if _missing(value):
        return "–"
    if write is not None:
        return write(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return visible(f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value))


@contextlib.contextmanager
def live(words: str, formats: Formats | None = None) -> Iterator[Callable[[pd.DataFrame], None]]:
    """A table on the terminal that changes while the body runs, under a line of words; silent unless standard output is one.

    Yields
    ------
    callable
        Takes the frame as it is now.
    """
    if not sys.stdout.isatty():
        yield lambda _frame: None
        return
    from rich.console import Group
    from rich.live import Live

    console = Console(stderr=True, highlight=False)
    line = Text(visible(words))
    with Live(line, console=console, transient=True, auto_refresh=False) as shown:

        def change(frame: pd.DataFrame) -> None:
            room = max(5, console.height - 6)
            rest = [Text(f"… and {len(frame) - room:,} more")] if len(frame) > room else []
            shown.update(Group(line, _table(frame, formats, room), *rest), refresh=True)

        yield change


@contextlib.contextmanager
def bar(words: str) -> Iterator[Progress]:
    """A progress bar on standard error while the body runs; silent unless standard output is a terminal."""
    if not sys.stdout.isatty():
        yield silent
        return
    with _bar() as shown:
        task = shown.add_task(words, total=None)

        def report(done: float, total: float, now: str) -> None:
            shown.update(task, completed=done, total=total, description=f"{words}: {visible(now)}" if now else words)

        yield report


def _bar(get_time: Callable[[], float] | None = None) -> RichProgress:
    """A bar with the time that is left, estimated from all that was done: one boot of a guest may take a minute and a half."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    return RichProgress(*columns, console=console, transient=True, speed_estimate_period=_ESTIMATED_FROM_S, get_time=get_time)


def guarded(command: Callable[[], Any]) -> int:
    """Run a command; give its exit status: 0 done, 1 failed or interrupted, 2 bad usage. No traceback for what a user can cause."""
    _show_what_cannot_be_encoded()
    with _quiet_warnings(), _terminated_like_interrupted():
        try:
            command()
            sys.stdout.flush()
        except UsageError as error:
            return _failed(error, 2)
        except ToolkitError as error:
            return _failed(error, 1)
        except KeyboardInterrupt:
            _tell(sys.stderr, "interrupted: what was measured and stored until now is kept; nothing else is left behind")
            return 1
        except OSError as error:
            return refused(error)
    return 0


def refused(error: OSError) -> int:
    """Say what the system refused where nobody expected it (a disk that died, an output without room); gives the exit status."""
    if isinstance(error, BrokenPipeError):
        _close_output()  # whoever read it (`toolkit doctor | head`) has seen enough
        return 1
    if sys.flags.dev_mode:
        raise error
    _close_output()
    said = error.strerror or str(error) or type(error).__name__
    about = f": {error.filename}" if error.filename is not None else ""
    remedy = "If nothing is wrong there, python -X dev -m toolkit shows where it was."
    return _failed(ToolkitError(f"the system refused: {said}{about}", remedy), 1)


def _close_output() -> None:
    """Keep the interpreter from flushing into standard output again if it takes no more (a pipe's end, a full disk)."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _show_what_cannot_be_encoded() -> None:
    """Write letters that a stream's encoding lacks by their numbers, as standard error does from the start."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _failed(error: ToolkitError, status: int) -> int:
    _tell(sys.stderr, f"error: {error.what}")
    if error.remedy:
        _tell(sys.stderr, f"       {error.remedy}")
    return status


def _tell(stream: TextIO, line: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        stream.write(visible(line, _LONGEST) + "\n")
        stream.flush()


@contextlib.contextmanager
def _quiet_warnings() -> Iterator[None]:
    """Write the toolkit's own warnings as one line each; leave all others as they are."""
    with warnings.catch_warnings():
        as_before = warnings.showwarning

        def showwarning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, ToolkitWarning):
                _tell(sys.stderr, f"warning: {message}")
            else:
                as_before(message, category, *where, **more)

        warnings.showwarning = showwarning
        warnings.simplefilter("always", ToolkitWarning)
        yield


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the program as Ctrl-C does, so that every context manager gives back what it holds."""

    def unwind(*_: object) -> None:
        raise KeyboardInterrupt

    # A signal that our parent had ignored (nohup) stays ignored.
    wanted = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, unwind) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
