"""The store: a folder of Parquet files, ``STORE/<table>/host=…/date=…/part-*.parquet``. Append, read, scan.

``folder`` is the store as people use it; ``layout`` names its folders and files; ``writing`` puts a file in place whole or not at
all; ``seal`` tells a footer with a wrong byte; ``reading`` finds what is damaged and reads no more than was asked for. What fits a
table is :mod:`toolkit.conform`'s business, what it means :mod:`toolkit.tables`'.
"""

from __future__ import annotations

from toolkit.store.folder import Store, open_store
from toolkit.store.reading import HOST_ITSELF

__all__ = ["HOST_ITSELF", "Store", "open_store"]
