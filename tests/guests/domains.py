"""A libvirtd of the tests' own, and the domains that they start on it.

It is a session daemon with folders of its own, so that no libvirtd which somebody runs on this machine is disturbed: the paths of
a system daemon are compiled in. As root it runs as an ordinary user, since root's daemon is always the system's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.guests.image import Image
from tests.needs import need, require_tool

#: Nobody, as Debian numbers it.
_ORDINARY = 65534
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Daemon:
    """A libvirtd: its folder and the address of its socket."""

    folder: Path
    uri: str
    pid: int


@contextlib.contextmanager
def libvirt_daemon(*options: str) -> Iterator[Daemon]:
    """Start a libvirtd; it, its domains and its files are gone afterwards. Its QEMU has these options, always."""
    try:
        import libvirt  # noqa: F401
    except ImportError:
        need(False, "libvirt-python (virt-toolkit[libvirt])")
    program = require_tool("libvirtd")
    require_tool("qemu-system-x86_64")
    # Short: the sockets' paths, a domain's name in them, must fit 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="vt-", dir="/tmp"))
    with contextlib.ExitStack() as left:
        left.callback(shutil.rmtree, folder, ignore_errors=True)
        left.enter_context(_after_us(folder))
        ordinary = [require_tool("setpriv"), f"--reuid={_ORDINARY}", f"--regid={_ORDINARY}", "--clear-groups"]
        if os.geteuid() != 0:
            ordinary = []
        else:
            os.chown(folder, _ORDINARY, _ORDINARY)
        homes = {name: str(folder / kind) for name, kind in _HOMES.items()}
        for path in homes.values():
            Path(path).mkdir(parents=True)
            if ordinary:
                os.chown(path, _ORDINARY, _ORDINARY)
        settings = folder / "c" / "libvirt"
        settings.mkdir()
        # QEMU writes its own log: no virtlogd is needed.
        (settings / "qemu.conf").write_text('stdio_handler = "file"\n')
        (settings / "libvirtd.conf").write_text('auth_unix_rw = "none"\n')
        if ordinary:
            for path in (settings, *settings.iterdir()):
                os.chown(path, _ORDINARY, _ORDINARY)
        environment = {**{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}, **homes}
        if options:
            environment["PATH"] = f"{_wrapped_qemu(folder, options)}{os.pathsep}{environment.get('PATH', os.defpath)}"
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*ordinary, program], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        (folder / "pid").write_text(str(process.pid))
        left.callback(_ended, process)
        socket = folder / "r" / "libvirt" / "libvirt-sock"
        until(socket.exists, "libvirtd's socket")
        daemon = Daemon(folder, f"qemu+unix:///session?socket={quote(str(socket))}", process.pid)
        left.callback(_destroy_all, daemon)
        yield daemon


def _wrapped_qemu(folder: Path, options: tuple[str, ...]) -> Path:
    """A folder for the path in which QEMU has options that nobody asked for: so another machine's hypervisor looks like."""
    programs = folder / "b"
    programs.mkdir(mode=0o755)
    program = programs / "qemu-system-x86_64"
    program.write_text(f'#!/bin/sh\nexec {require_tool(program.name)} {" ".join(options)} "$@"\n')
    program.chmod(0o755)
    return programs


_HOMES = {"HOME": "h", "XDG_RUNTIME_DIR": "r", "XDG_CONFIG_HOME": "c", "XDG_CACHE_HOME": "k", "XDG_DATA_HOME": "d"}


#: Ends what a killed test run left: libvirtd, then the domains, by the numbers that are written down in the folder.
_KEEPER = """
import contextlib, os, pathlib, shutil, signal, sys, time
folder = pathlib.Path(sys.argv[1])
sys.stdin.read()
for path in [folder / "pid", *folder.glob("r/libvirt/qemu/run/*.pid")]:
    with contextlib.suppress(OSError, ValueError):
        number = int(path.read_text())
        if str(folder).encode() in pathlib.Path(f"/proc/{number}/environ").read_bytes():
            os.kill(number, signal.SIGKILL)
time.sleep(1)
shutil.rmtree(folder, ignore_errors=True)
"""


@contextlib.contextmanager
def _after_us(folder: Path) -> Iterator[None]:
    """Have a process wait for our end, however it comes, and clean up after it where we could not."""
    keeper = subprocess.Popen([sys.executable, "-c", _KEEPER, str(folder)], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        keeper.wait(60)


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _destroy_all(daemon: Daemon) -> None:
    with opened(daemon) as connection:
        for domain in connection.listAllDomains(0):
            with contextlib.suppress(Exception):
                os.kill(qemu_pid(daemon, domain.name()), signal.SIGCONT)
            with contextlib.suppress(Exception):
                domain.destroy()
            with contextlib.suppress(Exception):
                domain.undefine()


@contextlib.contextmanager
def opened(daemon: Daemon) -> Iterator[Any]:
    """A connection of libvirt's own, for what the toolkit does not do."""
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)
    connection = libvirt.open(daemon.uri)
    try:
        yield connection
    finally:
        connection.close()


def until(holds: Callable[[], Any], what: str, patience_s: float = _PATIENCE_S) -> Any:
    """Wait until it holds; gives what it gave."""
    deadline = time.monotonic() + patience_s
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not come within {patience_s:g} s"
        time.sleep(0.1)


def qemu_pid(daemon: Daemon, name: str) -> int:
    """The process of a domain."""
    return int((daemon.folder / "r" / "libvirt" / "qemu" / "run" / f"{name}.pid").read_text())


def domain_xml(
    name: str,
    machine: str = "q35",
    *,
    acpi: bool = True,
    devices: str = "",
    boot: str = "",
    memory_mib: int = 64,
    root_ports: int = 0,
) -> str:
    """A domain under TCG; without devices of its own it only sits in its firmware."""
    from xml.sax.saxutils import escape

    features = "<features><acpi/><apic/></features>" if acpi else ""
    ports = "<controller type='pci' model='pcie-root'/>" if root_ports else ""
    ports += "<controller type='pci' model='pcie-root-port'/>" * root_ports
    return f"""<domain type='qemu'><name>{escape(name)}</name><memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='{machine}'>hvm</type>{boot}</os>{features}<seclabel type='none'/>
<devices>{ports}<memballoon model='none'/>{devices}</devices></domain>"""


def booting_xml(name: str, image: Image, folder: Path, devices: str = "") -> str:
    """The domain of the image, which has qemu-guest-agent; its disk is a copy in the folder."""
    for source in (image.disk, image.kernel, image.initrd):
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(source), str(folder / source.name)], check=True)
        os.chmod(folder / source.name, 0o666)
    boot = f"<kernel>{folder / image.kernel.name}</kernel><initrd>{folder / image.initrd.name}</initrd>"
    boot += "<cmdline>root=/dev/vda rw console=ttyS0 panic=-1 quiet mitigations=off</cmdline>"
    own = f"""<disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe'/>
<source file='{folder / image.disk.name}'/><target dev='vda' bus='virtio'/></disk>
<serial type='file'><source path='{folder / "console"}'/></serial>
<channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"""
    return domain_xml(name, devices=own + devices, boot=boot, memory_mib=384, root_ports=8)
