"""Guests of a kernel and busybox, booted: what they find and give, how they fail, and that nothing is left of them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import other_kernel, shared_cache
from tests.needs import require_lab
from tests.traces import processes_in, traces
from toolkit import lab_kernels, lab_needs
from toolkit.errors import LabError, UsageError
from toolkit.guests import accelerator as acceleration
from toolkit.guests import cpio, tiny
from toolkit.guests.devices import BACKENDS, RngLimit, Unlimited, check_rng, rng_device
from toolkit.guests.kernel_image import unpacked
from toolkit.guests.machine import Places
from toolkit.guests.recorded import recorded
from toolkit.guests.tiny import TinyGuest, boot_tiny
from toolkit.lab_kernels import find_kernels
from toolkit.lab_needs import guest_kernel
from toolkit.scratch_folder import remove_leftovers

LONG_S = 240.0
EGD = Unlimited(backend="egd")


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder with a short path: sockets lie in it."""
    require_lab()
    with tempfile.TemporaryDirectory(prefix="tiny-") as made:
        yield Path(made).resolve()


@pytest.mark.lab
@pytest.mark.slow
def test_two_at_once_on_two_kernels_one_fed_over_a_socket_give_what_they_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = other_kernel()
    whole = cpio.archive

    def halves(files: dict[str, bytes]) -> bytes:
        """As two archives that follow one another, which a kernel makes one tree of."""
        first = whole({name: content for name, content in files.items() if name != "lab/experiment"})
        return first + bytes(-len(first) % cpio.BLOCK_BYTES) + whole({"lab/experiment": files["lab/experiment"]})

    monkeypatch.setattr(cpio, "archive", halves)
    script = 'tell here\nread -r word <&3\ndd if=/dev/hwrng of=/out/bytes bs=64 count=4\necho "$word" > /out/word\nrecord_machine'
    specs = [
        TinyGuest(name="fed", script=script, rng=EGD, append="random.trust_cpu=off random.trust_bootloader=off"),
        TinyGuest(name="old", script=f"cat /lab/own > /out/own\n{script}", kernel=older, files={"lab/own": b"brought"}),
    ]
    with boot_tiny(specs, root) as guests:
        started = [guest.cpu_s() for guest in guests]
        assert [guest.told.line(LONG_S) for guest in guests] == ["here", "here"]
        assert sum("egd.py" in each for each in processes_in(root)) == 1
        for path in (guests[0].qmp, guests[0].console):
            assert path.stat().st_mode & 0o077 == 0
            assert path.parent.stat().st_mode & 0o777 == 0o700
        for guest in guests:
            guest.told.tell("word", LONG_S)
        results = [guest.result(LONG_S) for guest in guests]
        assert all(guest.cpu_s() > before for guest, before in zip(guests, started, strict=True))
    assert traces(root) == []
    assert [files["word"] for files in results] == [b"word\n"] * 2
    assert results[1]["own"] == b"brought"
    for files in results:
        assert len(files["bytes"]) == 256
        assert len(set(files["bytes"])) > 50  # it is no constant; more cannot be said of 256 bytes
    said = [recorded(files) for files in results]
    assert [each.kernel for each in said] == [find_kernels()[0].version, older.version]
    for each in said:
        assert each.state.hwrng_available == ("virtio_rng.0",)
        assert each.state.virtio_rng_unbound == 0
        assert each.state.kernel_log == "complete"
        assert 0 < each.notes_s["user space"] <= each.notes_s["end of the record"]
        assert (each.busy_s or 0) > 0
    assert len({each.boot_id for each in said} - {None}) == 2
    assert said[0].state.trust_cpu is False


@pytest.mark.lab
@pytest.mark.slow
def test_a_fetched_kernel_boots_where_none_is_installed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older, installed = other_kernel(), lab_kernels.kernels_in
    for module in (lab_kernels, lab_needs):  # as in a container: nothing in /boot
        monkeypatch.setattr(module, "kernels_in", lambda place: [] if place == Path("/") else installed(place))
    monkeypatch.setattr(acceleration, "_answers", [])
    with shared_cache():
        assert find_kernels()[0] == older
        with boot_tiny([TinyGuest(name="a", script="uname -r > /out/version")], root) as (guest,):
            assert guest.result(LONG_S)["version"].decode().strip() == older.version


@pytest.mark.lab
@pytest.mark.slow
def test_a_guest_that_ends_without_a_result_is_an_error_with_the_end_of_its_console(root: Path) -> None:
    specs = [
        TinyGuest(name="fails", script='fail "on \033[31m purpose"', rng=None),
        TinyGuest(name="exits", script="exit 3", rng=None),
    ]
    with boot_tiny(specs, root) as (fails, exits):
        with pytest.raises(LabError, match=r"'fails' ended before it gave its result; .*failed: on \\x1b\[31m purpose") as caught:
            fails.result(LONG_S)
        assert "\033" not in str(caught.value)
        with pytest.raises(LabError, match=r"'exits' ended .*Kernel panic - not syncing: Attempted to kill init"):
            exits.result(LONG_S)
        assert not any(guest.alive() for guest in (fails, exits))
    assert traces(root) == []


@pytest.mark.lab
def test_a_qemu_that_refuses_its_arguments_is_an_error_and_a_late_guest_too(root: Path) -> None:
    specs = [
        TinyGuest(name="wrong", script="", cpu="no-such-cpu"),
        TinyGuest(name="late", script="", incoming=True),  # waits for another to move in
    ]
    with boot_tiny(specs, root) as (wrong, late):
        with pytest.raises(LabError, match=r"'wrong' ended .*no-such-cpu"):
            wrong.result(LONG_S)
        with pytest.raises(LabError, match=r"'late' gave no result within 0 s"):
            late.result(0.3)
        assert late.alive()
    assert traces(root) == []


_OWNER = """
import sys
from pathlib import Path
from toolkit.guests.tiny import TinyGuest, Unlimited, boot_tiny
with boot_tiny([TinyGuest(name="owned", script="sleep 1000", rng=Unlimited(backend="egd"))], Path(sys.argv[1])) as (guest,):
    guest.result(1000)
"""


@pytest.mark.lab
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=str)
def test_an_owner_that_is_ended_leaves_no_guest_and_no_feeder(number: signal.Signals, root: Path) -> None:
    deadline = time.monotonic() + LONG_S
    with subprocess.Popen([sys.executable, "-c", _OWNER, str(root)], stderr=subprocess.DEVNULL) as owner:
        try:
            ours: list[str] = []
            while len(ours) < 2:  # QEMU and its feeder; beside their keeper
                assert time.monotonic() < deadline
                assert owner.poll() is None
                time.sleep(0.05)
                ours = [each for each in processes_in(root) if "-sandbox" in each or "egd.py" in each]
            handles = [os.pidfd_open(int(each.partition(":")[0])) for each in ours]
            owner.send_signal(number)
            assert owner.wait(LONG_S) != 0
        finally:
            owner.kill()
    for handle in handles:
        assert select.select([handle], [], [], 30)[0]
        os.close(handle)
    if number == signal.SIGKILL:
        # Its mark tells the next start what is to be removed; the rest goes at once, and then who removed it.
        while [path.suffix for path in root.iterdir()] != [".owner"] or processes_in(root):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(remove_leftovers(root)) == 1
    assert traces(root) == []


def command_line(spec: TinyGuest, how: str = "tcg") -> list[str]:
    return tiny._command_line(spec, Places(Path("/x"), spec.name), "qemu", Path("/boot/vmlinuz"), how)


def after(words: list[str], option: str) -> list[str]:
    return [words[place + 1] for place, word in enumerate(words) if word == option]


def test_qemu_has_no_device_that_was_not_asked_for_and_may_start_nothing() -> None:
    words = command_line(TinyGuest(name="a", script="", rng=None, append="quiet"))
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(words)
    assert after(words, "-sandbox") == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    assert after(words, "-display") == ["none"]
    assert [device.partition(",")[0] for device in after(words, "-device")] == ["virtio-serial-pci", "driver=virtserialport"]
    assert not {"-netdev", "-nic", "-drive", "-virtfs", "-object", "-incoming"} & set(words)
    assert after(words, "-append")[0].endswith(" quiet")
    assert "panic=-1" in after(words, "-append")[0]


def test_one_that_another_moves_into_waits_for_it() -> None:
    assert after(command_line(TinyGuest(name="a", script="", incoming=True)), "-incoming") == ["defer"]


def test_only_a_guest_that_is_translated_serves_its_requests_in_its_own_thread() -> None:
    for how, there in (("tcg", True), ("kvm", False)):
        (device,) = [each for each in after(command_line(TinyGuest(name="a", script=""), how), "-device") if "rng" in each]
        assert device.endswith(",ioeventfd=off") is there


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_backend_is_told_to_qemu_and_only_egd_needs_a_socket(backend: str) -> None:
    words = list(rng_device(RngLimit(max_bytes=16, period_ms=1000, backend=backend), Path("/x/a,b.egd")))  # type: ignore[arg-type]
    assert after(words, "-object") == [BACKENDS[backend]]  # type: ignore[index]
    assert after(words, "-device") == ["virtio-rng-pci,rng=rng,max-bytes=16,period=1000"]
    sockets = after(words, "-chardev")
    assert sockets == (["socket,id=egd,path=/x/a,,b.egd,server=on,wait=off"] if backend == "egd" else [])
    assert list(rng_device(None)) == []


def test_guests_that_cannot_be_meant_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    for specs, why in (
        ([TinyGuest(name="a", script="")] * 2, "same name"),
        ([TinyGuest(name="a b", script="")], "name"),
        ([TinyGuest(name="a", script="", rng=RngLimit(max_bytes=0, period_ms=1))], "at least 1 byte"),
        ([TinyGuest(name="a", script="", rng=Unlimited(backend="no"))], "is no backend"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError, match=why), boot_tiny(specs, tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "period"), [(2**63, 1), (1, 2**32), (0, 1), (1, 0), (-1, 1)])
def test_limits_that_qemu_cannot_hold_are_refused(size: int, period: int) -> None:
    with pytest.raises(UsageError):
        check_rng(RngLimit(max_bytes=size, period_ms=period))
    check_rng(RngLimit(max_bytes=2**63 - 1, period_ms=2**32 - 1))


@pytest.mark.lab
@pytest.mark.slow
def test_a_translated_guest_boots_its_kernel_unpacked(root: Path) -> None:
    kernel = guest_kernel()
    assert unpacked(kernel.image.read_bytes()) is not None
    spec = TinyGuest(name="a", script="grep ' _stext$' /proc/kallsyms > /out/text; uname -r > /out/version")
    with boot_tiny([spec], root) as (guest,):
        guest.stay_on_one_cpu()
        where = [os.sched_getaffinity(int(path.name)) for path in Path(f"/proc/{guest.pid}/task").iterdir()]
        found = guest.result(LONG_S)
    assert {len(each) for each in where} == {1 if guest.accelerator.name == "tcg" else len(os.sched_getaffinity(0))}
    assert found["version"].decode().strip() == kernel.version
    # Where it was linked for: what unpacks a kernel in the guest moves it elsewhere (KASLR), by one of some five hundred offsets.
    if guest.accelerator.name == "tcg":
        assert found["text"].split()[0] == b"ffffffff81000000"
