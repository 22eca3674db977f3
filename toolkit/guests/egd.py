"""Feeds QEMU's rng-egd: a program of its own, standard library alone, kept beside the QEMU that it feeds.

Called with the socket at which QEMU listens. The protocol is that of EGD, the entropy gathering daemon, as far as QEMU speaks it
(backends/rng-egd.c): two bytes, 2 and how many bytes are wanted, 255 at most; that many bytes are the answer.
"""

from __future__ import annotations

import os
import socket
import sys
import time

_WANTED = 2
_PAUSE_S = 0.02
_PATIENCE_S = 60.0


def serve(line: socket.socket) -> None:
    """Answer until the other side has gone, or asks for something else than bytes."""
    with line.makefile("rb") as asked:
        while len(order := asked.read(2)) == 2 and order[0] == _WANTED:
            line.sendall(os.urandom(order[1]))


def main() -> None:
    """Come to the socket as soon as it is there, and serve."""
    deadline = time.monotonic() + _PATIENCE_S
    with socket.socket(socket.AF_UNIX) as line:
        while time.monotonic() < deadline:
            try:
                line.connect(sys.argv[1])
            except OSError:
                time.sleep(_PAUSE_S)
            else:
                serve(line)
                break


if __name__ == "__main__":
    main()
