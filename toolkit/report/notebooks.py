"""The notebooks as they lie on disk: which there are, what each is called, which parameters it knows. It runs none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import ReportError
from toolkit.markup import visible

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Notebook", "cells", "find"]


@dataclass(frozen=True)
class Notebook:
    """One notebook.

    Attributes
    ----------
    path : Path
        Where it lies.
    title : str
        Its first heading, else its name.
    node : NotebookNode
        What is in it.
    """

    path: Path
    title: str
    node: NotebookNode

    @property
    def name(self) -> str:
        """Its file's name without the suffix; its page has the same."""
        return self.path.stem

    @property
    def page(self) -> str:
        """The file name of its page."""
        return f"{self.name}.html"

    @property
    def short(self) -> str:
        """Its title as far as the colon, for a link."""
        return self.title.partition(":")[0]

    def check_parameters(self, wanted: set[str]) -> None:
        """Be sure that the cell tagged ``parameters`` sets each of them: papermill would only warn, and show something else.

        Raises
        ------
        ReportError
            If one is missing; the message says which there are.
        """
        known = _parameters(self)
        missing = sorted(wanted - known)
        if missing:
            raise ReportError(
                f"notebook {self.path.name} knows no parameter {missing[0]!r}",
                f"Its cell tagged 'parameters' sets: {', '.join(sorted(known)) or 'nothing'}. Add: {missing[0]} = None.",
            )


def find(folder: Path) -> list[Notebook]:
    """All notebooks of a folder, in the order of their names.

    Raises
    ------
    ReportError
        If there is none, or one cannot be read.
    """
    paths = sorted(folder.glob("*.ipynb"))
    if not paths:
        raise ReportError(f"there is no notebook in {visible(folder)}", "Name the folder that has the notebooks of the toolkit.")
    return [_read(path) for path in paths]


def _read(path: Path) -> Notebook:
    import nbformat

    try:
        node = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(node)
    except (OSError, UnicodeDecodeError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise ReportError(
            f"notebook {visible(path.name)} cannot be read: {visible(reason)}", "Restore it from the toolkit's source."
        ) from error
    return Notebook(path, visible(_title(node) or path.stem), node)


def _title(node: NotebookNode) -> str:
    for cell in node.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("# "):
                    return str(line[2:].strip())
    return ""


def _parameters(notebook: Notebook) -> set[str]:
    cells = [cell for cell in notebook.node.cells if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])]
    if not cells:
        raise ReportError(
            f"notebook {notebook.path.name} has no cell tagged 'parameters'",
            "Tag the cell that sets store, host and run.",
        )
    try:
        statements = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise ReportError(f"the parameters cell of {notebook.path.name} is no Python: {error}", "Correct it.") from error
    names: set[str] = set()
    for statement in statements:
        targets = (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign)
            else []
        )
        names.update(target.id for target in targets if isinstance(target, ast.Name))
    return names


def cells(node: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Each cell with its number in the notebook's file, from 1; what papermill puts in between shares its neighbour's number."""
    number = 0
    for cell in node.cells:
        number += "injected-parameters" not in cell.metadata.get("tags", [])
        yield number, cell
