"""JupyterLab on the notebooks, with a store in place: the pages of a report, to work in. Nothing is copied.

The server listens on this machine alone, asks no other address for news or updates, and ends with whoever started it: on Ctrl-C,
on an error, and (Linux sends it a signal) when its parent is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from toolkit import share
from toolkit.errors import ReportError
from toolkit.scratch_folder import ScratchFolder

__all__ = ["running", "serve"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
#: A unix socket's path has 107 letters (sys/un.h); a kernel's is its connection file's (kernel-<uuid>) with -ipc-<n> behind.
_SOCKET_LETTERS, _SOCKET_SUFFIX = 107, 50
_START_S, _STOP_S, _LOOK_S = 90.0, 15.0, 0.1
_FIRST = "00_start_here.ipynb"


def serve(store: str | os.PathLike[str] | None = None, *, browser: bool = True, announce: Callable[[str], object] = print) -> None:
    """Serve the notebooks until Ctrl-C.

    Parameters
    ----------
    store : path, optional
        The store that the notebooks show; by default as for :func:`toolkit.report`.
    browser : bool
        Open a browser on it.
    announce : callable
        Called once with the address.

    Raises
    ------
    ReportError
        If there is no such store, or JupyterLab does not start or ends by itself with an error.
    """
    with running(store, browser=browser) as (address, server):
        announce(f"JupyterLab is at {address} (end it with Ctrl-C)")
        with contextlib.suppress(KeyboardInterrupt):
            status = server.wait()
            if status:
                raise ReportError(f"JupyterLab ended with status {status}", "What it wrote above says why.")


@contextlib.contextmanager
def running(
    store: str | os.PathLike[str] | None = None,
    *,
    notebooks: Path | None = None,
    browser: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """JupyterLab, as long as the body runs; gives its address, token included, and its process.

    Parameters
    ----------
    store : path, optional
        As in :func:`serve`.
    notebooks : Path, optional
        Another folder of notebooks.
    browser : bool
        Open a browser on it.
    environment : mapping, optional
        Environment variables of the server, beside ours.
    """
    folder = share.notebooks() if notebooks is None else notebooks
    path = share.named_store(store)
    with ScratchFolder() as private:
        variables = {
            **os.environ,
            "TOOLKIT_STORE": str(path.resolve()),
            "JUPYTER_RUNTIME_DIR": str(private),  # where the server tells its address; ours alone, so it can be no other's
            "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this interpreter before one that the user has elsewhere
            **(environment or {}),
        }
        # Its own process group: Ctrl-C on a terminal would reach it too, and it would ask whether it was meant.
        server = subprocess.Popen(_command(folder, private, browser), env=variables, stdin=subprocess.DEVNULL, process_group=0)
        try:
            yield _address(private, server, folder), server
        finally:
            _end(server)


def _command(folder: Path, private: Path, browser: bool) -> list[str]:
    settings = {
        "ServerApp.root_dir": str(folder),
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": "0",
        "ServerApp.open_browser": str(browser),
        "ServerApp.allow_root": str(os.geteuid() == 0),
        "LabApp.default_url": f"/lab/tree/{_FIRST}" if (folder / _FIRST).is_file() else "/lab",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.news_url": "None",
        "LabApp.extension_manager": "readonly",
        # Sockets in the private folder, where no other user can try them; ports only where a socket's path would be too long.
        "KernelManager.transport": "ipc" if len(str(private)) + _SOCKET_SUFFIX <= _SOCKET_LETTERS else "tcp",
        "Application.log_level": "WARN",
    }
    return [sys.executable, "-m", __name__, str(os.getpid()), *(f"--{name}={value}" for name, value in settings.items())]


def _address(private: Path, server: subprocess.Popen[bytes], folder: Path) -> str:
    """Wait until the server tells its address in its runtime folder, and listens there: it tells before it does."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if server.poll() is not None:
            raise ReportError(f"JupyterLab ended with status {server.returncode} before it served", "What it wrote above says why.")
        for path in private.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError):  # half written: look again
                told = json.loads(path.read_text(encoding="utf-8"))
                if not _listens(told["port"]):
                    continue
                page = f"lab/tree/{_FIRST}" if (folder / _FIRST).is_file() else "lab"
                return f"{told['url']}{page}?token={told['token']}" if told["token"] else f"{told['url']}{page}"
        time.sleep(_LOOK_S)
    raise ReportError(f"JupyterLab did not serve within {_START_S:.0f} s", "Run 'jupyter lab' by itself to see what keeps it.")


def _listens(port: int) -> bool:
    """Whether a connection to the port of this machine is taken."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=_LOOK_S).close()
    except OSError:
        return False
    return True


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ask it to end, which ends its kernels too; insist if it does not."""
    server.terminate()
    try:
        server.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _main(parent: int, arguments: list[str]) -> None:
    """The server's own process: tie its life to its parent's, then become JupyterLab."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it was gone before we asked
        return
    from jupyterlab.labapp import main  # type: ignore[import-untyped]

    main(arguments)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
