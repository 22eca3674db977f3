"""Boots guests that are a kernel and a few programs, and nothing else, for what a guest's own system would disturb.

No udev, no systemd, no root file system of the host: what asks for random bytes in such a guest is what the experiment lets ask.
Any kernel boots so, also a cloud kernel without 9p; it takes two or three seconds without KVM; and such a guest can be moved to
another QEMU while it runs. What it runs is a script for busybox's shell, ``tiny_init.sh`` around it; what it finds comes as files.
"""

from __future__ import annotations

import contextlib
import lzma
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from toolkit.errors import LabError, UsageError
from toolkit.guests import cpio
from toolkit.guests.accelerator import Accelerator, accelerator
from toolkit.guests.devices import CONFINED, EGD, RngLimit, Unlimited, check_rng, egd_feeder, port_name, ports, rng_device
from toolkit.guests.devices import socket_chardev as chardev
from toolkit.guests.kept import Kept, Process
from toolkit.guests.kernel_image import bootable
from toolkit.guests.machine import Places, check_name
from toolkit.guests.told import Told
from toolkit.lab_kernels import GuestKernel, find_kernels
from toolkit.lab_needs import find_busybox, find_qemu
from toolkit.markup import visible
from toolkit.scratch_folder import ScratchFolder

__all__ = ["TinyGuest", "TinyGuestRuns", "boot_tiny"]

_MIB = 1024 * 1024
_SCRIPT = Path(__file__).with_name("tiny_init.sh")
_INIT = "rdinit=/lab/init"
_SHOWN_LINES = 12
_SHOWN_LETTERS = 200
_PANIC = "Kernel panic - not syncing"


@dataclass(frozen=True, kw_only=True)
class TinyGuest:
    """A guest of a kernel, busybox and a script.

    Attributes
    ----------
    name : str
        Letters, digits, ``-`` and ``_``; also its host name.
    script : str
        What it runs, by busybox's shell inside ``tiny_init.sh``; what it leaves in /out is the result.
    kernel : GuestKernel or None
        What it boots; None for the newest that is installed or was fetched.
    rng : Unlimited, RngLimit or None
        Its virtio-rng; None for no device.
    cpu, append : str
        QEMU's name of its processor; more arguments for its kernel.
    files : mapping of str to bytes
        More files in it, by path without a leading slash; all may be run.
    modules : sequence of str
        More modules of its kernel.
    memory_bytes, cpus : int
        Its size.
    incoming : bool
        Whether it does not boot, but waits until a running guest moves in.
    """

    name: str
    script: str
    kernel: GuestKernel | None = None
    rng: Unlimited | RngLimit | None = field(default_factory=Unlimited)
    cpu: str = "max"
    append: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    modules: Sequence[str] = ()
    memory_bytes: int = 256 * _MIB
    cpus: int = 1
    incoming: bool = False


@dataclass(frozen=True)
class TinyGuestRuns:
    """A guest that was started.

    Attributes
    ----------
    spec : TinyGuest
        As it was asked for.
    told : Told
        What it says over its port, and how it is answered.
    qmp, console : Path
        The socket of QEMU's monitor; the last of what it and QEMU printed.
    accelerator : Accelerator
        How it runs, and why so.
    """

    spec: TinyGuest
    told: Told
    qmp: Path
    console: Path
    accelerator: Accelerator
    _process: Process = field(repr=False)

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._process.ended()

    def result(self, timeout_s: float) -> dict[str, bytes]:
        """Wait for the files that its experiment left; nothing in them is to be trusted.

        Raises
        ------
        LabError
            If it ends without, is late, or sends what is no result; with the end of its console.
        """
        try:
            files = self.told.result(timeout_s)
        except TimeoutError:
            raise self.failed(f"gave no result within {timeout_s:.0f} s") from None
        except EOFError:
            self._process.let_finish()
            raise self.failed("ended before it gave its result") from None
        except ValueError as error:
            raise self.failed(f"gave a result that is none ({error})") from None
        return files

    def hear(self, word: str, timeout_s: float) -> None:
        """Wait for a line that it says, past all others.

        Raises
        ------
        LabError
            If it ends without, or is late; with the end of its console.
        """
        deadline = time.monotonic() + timeout_s
        try:
            while self.told.line(deadline - time.monotonic()) != word:
                pass
        except TimeoutError:
            raise self.failed(f"did not say {word!r} within {timeout_s:.0f} s") from None
        except (EOFError, ValueError):
            self._process.let_finish()
            raise self.failed(f"ended before it said {word!r}") from None

    def tell(self, word: str, timeout_s: float) -> None:
        """Say a line to it.

        Raises
        ------
        LabError
            If it has ended, or does not listen; with the end of its console.
        """
        try:
            self.told.tell(word, timeout_s)
        except (TimeoutError, EOFError):
            raise self.failed(f"does not listen to {word!r}") from None

    def cpu_s(self) -> float:
        """Processor time that QEMU used until now, or until its end, in s."""
        text = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        # proc(5): utime and stime are fields 14 and 15; a name in brackets is the second.
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stay_on_one_cpu(self) -> None:
        """Keep all of QEMU on one processor: for a guest whose every request is handed from one of its threads to another.

        Under TCG a guest that draws from its virtio-rng does nothing else, and drew a fifth more here where no processor had to
        wake another. Under KVM nothing is changed.
        """
        if self.accelerator.name != "tcg":
            return
        chosen = {max(os.sched_getaffinity(0))}
        # A thread begins where the one is that starts it: the first thread comes first.
        for thread in [self.pid, *(int(path.name) for path in Path(f"/proc/{self.pid}/task").glob("*"))]:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, chosen)

    def failed(self, how: str) -> LabError:
        """The error that says what it did, and how its console ends."""
        try:
            said = self.console.read_bytes().decode(errors="backslashreplace")
        except FileNotFoundError:
            said = ""
        lines = [visible(line, _SHOWN_LETTERS) for line in said.splitlines() if line.strip()]
        # A kernel says why it panics before it shows its registers, and reboots after.
        why = [line for line in lines[:-_SHOWN_LINES] if _PANIC in line][-1:]
        shown = " | ".join([*why, *lines[-_SHOWN_LINES:]]) or "nothing"
        what = f"The lab guest {self.spec.name!r} {how}; the end of its console: {shown}"
        return LabError(what, "Run: toolkit doctor, which shows what lab guests need.")


@contextlib.contextmanager
def boot_tiny(specs: Sequence[TinyGuest], folder: Path | None = None) -> Iterator[list[TinyGuestRuns]]:
    """Start guests, all at once; they are gone after the ``with`` block, however it ends, also if this process is killed.

    Parameters
    ----------
    specs : sequence of TinyGuest
        What to boot.
    folder : Path, optional
        The existing folder in which a private one is made for them; by default ``$TOOLKIT_SCRATCH``, else /var/tmp.

    Yields
    ------
    list of TinyGuestRuns
        In the same order; they have been started, and may not have booted yet.

    Raises
    ------
    LabError
        If one cannot be started.
    UnavailableError
        If QEMU, busybox, a kernel or a module of it is missing.
    UsageError
        If a guest cannot be meant.

    Examples
    --------
    >>> with boot_tiny([TinyGuest(name="a", script="cat /proc/version > /out/version")]) as (guest,):  # doctest: +SKIP
    ...     guest.result(60)["version"][:13]
    b'Linux version'
    """
    for spec in specs:
        check_name(spec.name)
        check_rng(spec.rng)
    if len({spec.name for spec in specs}) < len(specs):
        raise UsageError("Two lab guests have the same name", "Give each a name of its own.")
    qemu = find_qemu()
    kernels = [spec.kernel or find_kernels()[0] for spec in specs]
    found = accelerator(*kernels[:1])
    busybox = Path(find_busybox()).read_bytes()
    with ScratchFolder(folder) as private, contextlib.ExitStack() as lines:
        places = [Places(private, spec.name) for spec in specs]
        commands, logs = [], []
        for spec, kernel, place in zip(specs, kernels, places, strict=True):
            place.check()
            _write(place.initramfs, _files(spec, kernel, busybox))
            commands.append(_command_line(spec, place, qemu, bootable(kernel.image, found), found.name))
            logs.append(place.console)
        for spec, place in zip(specs, places, strict=True):
            if spec.rng is not None and spec.rng.backend == EGD:
                commands.append(egd_feeder(place.egd))
                logs.append(private / f"{spec.name}.egd.log")
        with Kept(commands, logs, private) as processes:
            guests = []
            for spec, place, process in zip(specs, places, processes, strict=False):
                told = lines.enter_context(Told(place.socket(0), process.ended))
                guests.append(TinyGuestRuns(spec, told, place.qmp, place.console, found, process))
            yield guests


def _files(spec: TinyGuest, kernel: GuestKernel, busybox: bytes) -> dict[str, bytes]:
    """All that is in its initramfs."""
    wanted = ["virtio_pci", *["virtio_rng"] * (spec.rng is not None), "virtio_console", *spec.modules]
    modules = kernel.modules(wanted)
    names = [path.name.partition(".ko")[0] + ".ko" for path in modules]
    settings = {"hostname": spec.name, "port": port_name(0), "modules": " ".join(names)}
    return {
        "bin/busybox": busybox,
        "lab/init": _SCRIPT.read_bytes(),
        "lab/settings": "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items()).encode(),
        "lab/experiment": spec.script.encode(),
        **{f"lab/modules/{name}": _module(path) for name, path in zip(names, modules, strict=True)},
        **spec.files,
    }


def _module(path: Path) -> bytes:
    """A module's code, which a kernel may not be able to unpack itself."""
    content = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(content)
    if path.suffix == ".zst":
        with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as unpacked:
            return bytes(unpacked.read())
    return content


def _write(place: Path, files: Mapping[str, bytes]) -> None:
    try:
        place.write_bytes(cpio.archive(files))
    except OSError as error:
        what = f"The initramfs of a lab guest cannot be written to {error.filename}: {error.strerror}"
        raise LabError(what, "Free some space there, or set TOOLKIT_SCRATCH to another folder.") from error


def _command_line(spec: TinyGuest, place: Places, qemu: str, image: Path, how: str) -> list[str]:
    said = f"console=ttyS0 quiet panic=-1 {_INIT} {spec.append}".rstrip()
    return [
        *(qemu, *CONFINED, "-name", f"virt-toolkit-lab-{spec.name}", "-machine", "q35", "-accel", how, "-cpu", spec.cpu),
        *("-smp", str(spec.cpus), "-m", f"{spec.memory_bytes // _MIB}M"),
        *("-kernel", str(image), "-initrd", str(place.initramfs), "-append", said),
        *("-chardev", "file,id=console,path=/dev/stdout", "-serial", "chardev:console"),
        *("-chardev", chardev("qmp", place.qmp), "-mon", "chardev=qmp,mode=control"),
        *rng_device(spec.rng, place.egd, translated=how == "tcg"),
        *ports([place.socket(0)], watched=how != "tcg"),
        *(("-incoming", "defer") if spec.incoming else ()),
    ]
