"""``python -m toolkit`` and the ``toolkit`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit status."""
    from toolkit.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
