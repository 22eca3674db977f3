"""``python -m toolkit`` and the ``toolkit`` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line and leave with its exit status."""
    from toolkit.ownership import private_process

    _open_standard_streams()
    private_process()
    from toolkit.cli import run

    try:
        sys.exit(run())
    except OSError as error:
        # Of --help, say, which is no command: there may be no room for it where it goes.
        from toolkit.terminal import refused

        sys.exit(refused(error))


def _open_standard_streams() -> None:
    """Open what our parent closed of the standard streams: the first file of ours would get its number, and then our words."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    nowhere = Path(os.devnull)
    sys.stdout = sys.stdout or nowhere.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nowhere.open("w", encoding="utf-8")


if __name__ == "__main__":
    main()
