"""Notebooks to self-contained HTML pages. :func:`report` is all that others need.

``book`` makes a whole report; ``run`` runs a notebook; ``inert`` says what may stand in a page; ``page`` writes one; ``front`` is
the first page's content and ``provenance`` the foot of all; ``jupyterlab`` serves the same notebooks to work in. Figures and tables
are made by the notebooks, from :mod:`toolkit.explore` and :mod:`toolkit.plots`.
"""

from __future__ import annotations

from toolkit.report.book import report

__all__ = ["report"]
