"""Runs one notebook in a kernel of its own and gives back what it showed.

The kernel is the running interpreter, whatever kernels are installed; its connection file, its sockets and its IPython folder
lie in a private folder, so that nobody's IPython configuration or history changes a report. If this process dies,
the kernel notices within a second and ends itself.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import ReportError
from toolkit.markup import visible
from toolkit.report.notebooks import Notebook

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager
    from nbformat import NotebookNode

__all__ = ["Kernels", "run"]

#: A cell that has said nothing for so long hangs.
CELL_TIMEOUT_S = 300
#: A unix socket's path has 107 letters (sys/un.h); the kernel's is this much longer than its folder's.
_SOCKET_LETTERS, _SOCKET_SUFFIX = 107, 4


class Kernels:
    """The kernels that are running now, so that an interrupt in another thread can end them at once."""

    def __init__(self) -> None:
        self._running: set[AsyncKernelManager] = set()
        self._lock = threading.Lock()
        self._ended = False

    def started(self, kernel: AsyncKernelManager) -> None:
        """Remember a kernel; end it at once if all were ended already."""
        with self._lock:
            self._running.add(kernel)
            ended = self._ended
        if ended:
            _kill(kernel)

    def end_all(self) -> None:
        """End those that run and any that still starts."""
        with self._lock:
            self._ended = True
            running = list(self._running)
        for kernel in running:
            _kill(kernel)


def _kill(kernel: AsyncKernelManager) -> None:
    process = getattr(kernel.provisioner, "process", None)
    if process is not None and process.poll() is None:
        process.kill()


def run(
    notebook: Notebook, parameters: Mapping[str, Any], environment: Mapping[str, str], kernels: Kernels, folder: Path
) -> NotebookNode:
    """Run a notebook with parameters and give it back with its outputs.

    Parameters
    ----------
    notebook : Notebook
        It is not changed.
    parameters : mapping
        Values for names that its cell tagged ``parameters`` sets.
    environment : mapping
        Environment variables of its kernel, beside our own.
    kernels : Kernels
        Where the kernel is noted while it runs.
    folder : Path
        A private folder, not there yet, for the kernel's files and as the notebook's working directory.

    Raises
    ------
    ReportError
        If a parameter is unknown, a cell fails or hangs, or the kernel dies; the message names notebook, cell and error.
    """
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    notebook.check_parameters(set(parameters))
    work = folder / "work"
    work.mkdir(parents=True)
    try:
        made: NotebookNode = papermill.execute_notebook(
            notebook.node,
            None,
            parameters=dict(parameters),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            execution_timeout=CELL_TIMEOUT_S,
            shutdown_kernel="immediate",  # it holds nothing; asking it to stop costs seconds and prints into our standard error
            resources={"metadata": {"path": str(work)}},
            kernel_manager_class=_kernel_class(folder, environment, kernels),
        )
    except PapermillExecutionError as error:
        raise _cell_failed(notebook, error.cell_index, f"{error.ename}: {error.evalue}", error.source) from error
    except CellTimeoutError as error:
        raise ReportError(
            f"a cell of notebook {notebook.path.name} said nothing for {CELL_TIMEOUT_S} s",
            f"Open it with 'toolkit notebooks' and run its cells one by one: {visible(error, 120)}",
        ) from error
    except DeadKernelError as error:
        raise ReportError(
            f"the kernel of notebook {notebook.path.name} died",
            "If memory ran out, report on less with --host or --run; else run it with 'toolkit notebooks' to see why.",
        ) from error
    finally:
        ensure_event_loop().close()  # this thread's own, which the client made and leaves open

    return made


def _cell_failed(notebook: Notebook, index: int, error: str, source: str) -> ReportError:
    # papermill puts its cell with the parameters behind ours: what comes after it is one further than in the file.
    tagged = next(n for n, cell in enumerate(notebook.node.cells) if "parameters" in cell.metadata.get("tags", []))
    number = index + 1 if index <= tagged else index
    first = next((line for line in source.splitlines() if line.strip() and not line.startswith("#")), "")
    return ReportError(
        f"cell {number} of notebook {notebook.path.name} failed: {visible(error.partition(chr(10))[0], 300)}",
        f"It is the cell that begins with '{visible(first.strip(), 60)}'; 'toolkit notebooks' shows the whole traceback.",
    )


def _kernel_class(folder: Path, environment: Mapping[str, str], kernels: Kernels) -> type[AsyncKernelManager]:
    """A kernel manager for one notebook. A class and not an object: the client owns, and so ends, only what it makes itself."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    if len(str(folder)) + _SOCKET_SUFFIX > _SOCKET_LETTERS:
        raise ReportError(
            f"the path {visible(folder)} is too long for a kernel's sockets", "Set TOOLKIT_SCRATCH to a shorter path."
        )
    variables = {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder),
        "ITABLES_CONFIG": "",  # nobody's own table settings
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # no word about frozen modules at each start
        **environment,
    }
    spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        env=variables,
        display_name="Python",
        language="python",
    )

    class OwnKernel(AsyncKernelManager):
        """The running interpreter as a kernel, reached through sockets in the private folder."""

        @default("transport")
        def _transport(self) -> str:
            return "ipc"

        @default("ip")
        def _ip(self) -> str:
            return str(folder / "k")

        @default("connection_file")
        def _connection_file(self) -> str:
            return str(folder / "kernel.json")

        @property
        def kernel_spec(self) -> KernelSpec:
            return spec

        async def _async_post_start_kernel(self, **options: Any) -> None:
            kernels.started(self)
            await super()._async_post_start_kernel(**options)

    return OwnKernel
