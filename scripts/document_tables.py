"""Writes docs/tables.md from the schemas in toolkit/tables.py. Run it after a change of a table; a test holds the two together."""

from __future__ import annotations

from pathlib import Path

from toolkit.tables import describe

HEAD = """# The tables

Units are in the column names; missing is null, never 0. The store keeps them as `STORE/<table>/host=…/date=…/part-*.parquet`.
This page is made from `toolkit/tables.py` by `scripts/document_tables.py`.

"""


def page() -> str:
    """The whole page."""
    return HEAD + describe()


if __name__ == "__main__":
    target = Path(__file__).parent.parent / "docs" / "tables.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text(page(), encoding="utf-8")
