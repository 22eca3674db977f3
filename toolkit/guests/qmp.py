"""QEMU's monitor, one question at a time, over its unix socket.

The library qemu.qmp is made for asyncio and for a monitor that is listened to; here a command is given now and then, from code that
waits for its answer, and a connection a command leaves the monitor free for whoever else asks.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from toolkit.errors import LabError
from toolkit.markup import visible

__all__ = ["execute"]

_PATIENCE_S = 20.0
# The greatest answer to what is asked here is a few kB.
_MOST_BYTES = 1 << 20
# Events come between our question and its answer.
_MOST_LINES = 1000


def execute(path: Path, command: str, /, **arguments: Any) -> Any:
    """Give QEMU a command and wait for the answer.

    Parameters
    ----------
    path : Path
        The monitor's socket.
    command : str
        Such as ``query-status`` or ``device_add``.
    **arguments
        Its arguments.

    Raises
    ------
    LabError
        If QEMU refuses, says what cannot be understood, or is gone.
    """
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(_PATIENCE_S)
            line.connect(str(path))
            with line.makefile("rb") as said:
                json.loads(said.readline(_MOST_BYTES))  # the greeting
                for each, given in (("qmp_capabilities", {}), (command, arguments)):
                    line.sendall(json.dumps({"execute": each, "arguments": given}).encode() + b"\n")
                    answer = next(found for found in _answers(said) if "event" not in found)
    except (OSError, ValueError, StopIteration) as error:
        raise LabError(
            f"QEMU does not answer to {command} ({error or 'it closed its monitor'})", "See the guest's console."
        ) from error
    if "error" in answer:
        raise LabError(f"QEMU refuses {command}: {visible(answer['error'].get('desc'))}")
    return answer.get("return")


def _answers(said: Any) -> Any:
    for _ in range(_MOST_LINES):
        line = said.readline(_MOST_BYTES)
        if not line:
            return
        yield json.loads(line)
