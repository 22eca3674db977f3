"""Lab guests, booted: what is in them, what they cannot do to the host, and that nothing is left of them."""

from __future__ import annotations

import json
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

from tests.guests.asked import COMMAND, answer, ask, connected
from tests.needs import require_lab, require_tool
from tests.traces import processes_in, traces
from toolkit.errors import LabError, UnavailableError, UsageError
from toolkit.guests import lab, qmp
from toolkit.guests.lab import BootedGuest, LabGuest, RngLimit, accelerator, boot, lab_kernel, port_name
from toolkit.scratch_folder import remove_leftovers

pytestmark = [pytest.mark.lab, pytest.mark.slow]

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def _lab() -> None:
    require_lab()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short path: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="lab-") as made:
        yield Path(made).resolve()


@pytest.fixture(scope="module")
def guests(folder: Path) -> Iterator[tuple[BootedGuest, BootedGuest]]:
    """One that has everything, and one without a virtio-rng."""
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(4 * MIB)
    rich = LabGuest(name="rich", command=COMMAND, rng=RngLimit(max_bytes=1024, period_ms=1000), disks=[image], ports=31)
    poor = LabGuest(
        name="poor", command=COMMAND, rng=None, cpu="qemu64", append="random.trust_cpu=off", environment={"FOO": "a b'c"}
    )
    with boot([rich, poor], folder) as (first, second):
        yield first, second


@pytest.fixture
def rich(guests: tuple[BootedGuest, BootedGuest]) -> BootedGuest:
    return guests[0]


@pytest.fixture
def poor(guests: tuple[BootedGuest, BootedGuest]) -> BootedGuest:
    return guests[1]


def test_a_guest_answers_over_its_port_from_this_machines_kernel_and_files(rich: BootedGuest) -> None:
    assert ask(rich, "os.uname().nodename") == "rich"
    assert ask(rich, "os.uname().release") == lab_kernel().name.removeprefix("vmlinuz-")
    assert ask(rich, f"open({__file__!r}).read()") == Path(__file__).read_text()
    assert ask(rich, "os.geteuid()") == 0
    assert rich.alive()


def test_the_kernel_the_processor_and_the_command_are_as_asked_for(poor: BootedGuest) -> None:
    assert "random.trust_cpu=off" in ask(poor, "open('/proc/cmdline').read()").split()
    assert "rdrand" not in ask(poor, "open('/proc/cpuinfo').read()").split()
    assert ask(poor, "os.environ['FOO']") == "a b'c"


def test_a_virtio_rng_is_there_with_its_driver_or_not_at_all(rich: BootedGuest, poor: BootedGuest) -> None:
    current = "open('/sys/class/misc/hw_random/rng_current').read()"
    assert ask(rich, current).startswith("virtio_rng")
    assert ask(rich, "os.path.exists('/dev/hwrng')") is True
    assert ask(rich, "len(os.read(os.open('/dev/hwrng', os.O_RDONLY), 16))") == 16
    virtio_rng = "0x0004"  # include/uapi/linux/virtio_ids.h
    devices = "[open(path).read().strip() for path in glob.glob('/sys/bus/virtio/devices/*/device')]"
    assert virtio_rng in ask(rich, devices)
    assert virtio_rng not in ask(poor, devices)
    assert not ask(poor, "os.path.exists('/sys/class/misc/hw_random/rng_current') and " + current).startswith("virtio")


def test_a_disk_is_read_and_written_and_no_larger_than_its_image(rich: BootedGuest, folder: Path) -> None:
    assert ask(rich, "int(open('/sys/block/vda/size').read()) * 512") == 4 * MIB
    assert ask(rich, "os.pwrite(os.open('/dev/vda', os.O_WRONLY | os.O_SYNC), b'from the guest', 4096)") == 14
    assert (folder / "disk").read_bytes()[4096:].startswith(b"from the guest")


def test_a_file_system_that_the_kernel_has_as_a_module_can_be_made_and_mounted_on_a_disk(rich: BootedGuest) -> None:
    require_tool("mkfs.ext4")
    assert ask(rich, "subprocess.call(['mkfs.ext4', '-q', '-F', '/dev/vda'])") == 0
    assert ask(rich, "subprocess.call(['mount', '-t', 'ext4', '/dev/vda', '/mnt'])") == 0
    assert ask(rich, "open('/mnt/file', 'w').write('x')") == 1
    assert ask(rich, "subprocess.call(['umount', '/mnt'])") == 0


def test_there_is_no_network(rich: BootedGuest) -> None:
    assert ask(rich, "os.listdir('/sys/class/net')") == ["lo"]


def test_what_a_guest_writes_does_not_reach_the_host(rich: BootedGuest, folder: Path) -> None:
    precious = folder / "precious"
    precious.write_text("host")
    assert ask(rich, f"open({str(precious)!r}, 'w').write('guest')") == 5
    assert ask(rich, f"open({str(folder / 'new')!r}, 'w').write('guest')") == 5
    assert ask(rich, f"os.mkdir('/etc/{folder.name}')") is None
    assert ask(rich, f"open({str(precious)!r}).read()") == "guest"
    assert precious.read_text() == "host"
    assert not (folder / "new").exists()
    assert not Path("/etc", folder.name).exists()


def test_a_guest_that_makes_the_hosts_root_writable_for_itself_is_refused_by_qemu(rich: BootedGuest, folder: Path) -> None:
    precious = folder / "precious"
    precious.write_text("host")
    busybox = "subprocess.call(['chroot', '/proc/1/root', '/bin/busybox', {!r}, {!r}, {!r}, {!r}])"
    assert ask(rich, busybox.format("mount", "-o", "remount,rw", "/host")) == 0
    below = f"/proc/1/root/host{folder}"
    assert ask(rich, f"open('{below}/precious').read()") == "host"
    for attempt in (
        f"open('{below}/precious', 'w').write('guest')",
        f"open('{below}/new', 'w').write('guest')",
        f"os.unlink('{below}/precious')",
        f"os.mkdir('{below}/new')",
        f"os.chmod('{below}/precious', 0o777)",
        f"os.rename('{below}/precious', '{below}/new')",
        f"os.link('{below}/precious', '{below}/new')",
        f"os.truncate('{below}/precious', 0)",
    ):
        assert ask(rich, attempt) == "EROFS", attempt
    assert precious.read_text() == "host"
    assert not (folder / "new").exists()


def test_a_guest_that_is_stopped_answers_when_it_goes_on(rich: BootedGuest) -> None:
    with connected(rich.sockets[0], timeout_s=1.0) as line:
        rich.stop()
        assert qmp.execute(rich.qmp, "query-status")["status"] == "paused"
        assert rich.alive()
        line.sendall(b"6 * 7\n")
        with pytest.raises(TimeoutError):
            line.recv(1)
        rich.go_on()
        line.settimeout(60.0)
        assert answer(line) == 42


def test_thirty_one_ports_are_there_and_each_leads_to_its_socket(rich: BootedGuest) -> None:
    assert sorted(ask(rich, "[name for name in os.listdir('/dev/virtio-ports')]")) == sorted(map(port_name, range(31)))
    for port in (1, 29, 30):
        with connected(rich.sockets[port]) as line:
            said = f"os.write(os.open('/dev/virtio-ports/{port_name(port)}', os.O_RDWR), b'I am {port}')"
            ask(rich, said)
            assert line.recv(100) == b"I am %d" % port


def test_a_port_that_is_unplugged_is_gone_in_the_guest_and_works_when_it_is_plugged_again(rich: BootedGuest) -> None:
    there = f"os.path.exists('/dev/virtio-ports/{port_name(5)}')"
    with connected(rich.sockets[5]) as line:
        assert ask(rich, there)
        rich.unplug_port(5)
        _until(lambda: not ask(rich, there))
        rich.plug_port(5)
        _until(lambda: ask(rich, there))
        ask(rich, f"os.write(os.open('/dev/virtio-ports/{port_name(5)}', os.O_RDWR), b'again')")
        assert line.recv(100) == b"again"
    with pytest.raises(LabError, match="refuses device_add"):
        rich.plug_port(5)


def _until(holds: object) -> None:
    deadline = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_lies_on_the_machine_is_private(rich: BootedGuest) -> None:
    for path in (*rich.sockets, rich.qmp, rich.console):
        assert path.stat().st_mode & 0o077 == 0, path
        assert len(os.fsencode(path)) < 108
    assert rich.qmp.parent.stat().st_mode & 0o777 == 0o700
    assert f"virt-toolkit-lab-{rich.name}".encode() in Path(f"/proc/{rich.pid}/cmdline").read_bytes()


def test_a_command_that_fails_is_an_error_with_the_end_of_the_console(folder: Path) -> None:
    words = ["sh", "-c", "echo 'last \033[31mwords'; exit 3"]
    specs = [LabGuest(name="fails", command=words), LabGuest(name="lacks", command=["/no/such/program"])]
    with boot([*specs], folder) as (fails, lacks):
        with pytest.raises(LabError, match=r"ended with status 3; .*last \\x1b\[31mwords") as caught:
            fails.wait(60)
        assert "\033" not in str(caught.value)
        with pytest.raises(LabError, match=r"'lacks' .*status 127; .*No such file"):
            lacks.wait(60)
        assert not fails.alive()
        with pytest.raises(LabError, match="is off"):
            fails.stop()


def test_a_guest_that_does_not_come_up_is_an_error_with_the_end_of_its_console_and_leaves_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="lab-") as made:
        root = Path(made)
        never = LabGuest(name="never", command=["true"], append="rdinit=/none init=/none")
        with pytest.raises(LabError, match=r"'never' ended before it started its command; .*panic"), boot([never], root):
            pass
        assert traces(root) == []
        late = LabGuest(name="late", command=["true"])
        with (
            pytest.raises(LabError, match=r"did not start its command within 0 s under (KVM|TCG): "),
            boot([late], root, patience_s=0.2),
        ):
            pass
        assert traces(root) == []
        wrong = LabGuest(name="wrong", command=["true"], cpu="no-such-cpu")
        with pytest.raises(LabError, match=r"'wrong' ended .*no-such-cpu"), boot([wrong], root):
            pass
        assert traces(root) == []


_OWNER = """
import sys
from pathlib import Path
from toolkit.guests.lab import LabGuest, boot
with boot([LabGuest(name=name, command=["sleep", "1000"]) for name in sys.argv[2:]], Path(sys.argv[1])):
    print("up", flush=True)
    sys.stdin.readline()
    raise RuntimeError("as told")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None], ids=str)
def test_an_owner_that_is_ended_leaves_no_guest(number: signal.Signals | None) -> None:
    """By a signal while they boot, by an error once they are up."""
    with tempfile.TemporaryDirectory(prefix="lab-") as made:
        root, pipe = Path(made).resolve(), subprocess.PIPE
        names = ["one"] if number is None else ["one", "two"]
        words = [sys.executable, "-c", _OWNER, str(root), *names]
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as owner:
            try:
                handles = _qemus(root, len(names))
                if number is None:
                    assert owner.stdin is not None
                    assert owner.stdout is not None
                    assert owner.stdout.readline() == "up\n"
                    owner.stdin.close()
                else:
                    owner.send_signal(number)
                assert owner.wait() != 0
            finally:
                owner.kill()
        for handle in handles:
            assert select.select([handle], [], [], 30)[0]
            os.close(handle)
        if number == signal.SIGKILL:
            # Its mark tells the next start what is to be removed; the rest goes at once, and then who removed it.
            _until(lambda: [path.suffix for path in root.iterdir()] == [".owner"] and not processes_in(root))
            assert len(remove_leftovers(root)) == 1
        assert traces(root) == []


def _qemus(root: Path, count: int) -> list[int]:
    """The guests that an owner has started: handles of their processes."""
    found: list[str] = []

    def started() -> bool:
        found[:] = [each for each in processes_in(root) if "virt-toolkit-lab-" in each and "-sandbox" in each]
        return len(found) == count

    _until(started)
    return [os.pidfd_open(int(each.partition(":")[0])) for each in found]


def test_the_accelerator_says_which_and_why_and_a_real_boot_agrees(rich: BootedGuest, folder: Path) -> None:
    found = accelerator()
    assert rich.accelerator is found
    assert str(found).startswith(found.name.upper())
    assert len(found.why) > 10
    kvm = Path("/dev/kvm")
    assert f"-accel\0{found.name}\0".encode() in Path(f"/proc/{rich.pid}/cmdline").read_bytes()
    if found.name == "tcg" and kvm.exists() and os.access(kvm, os.R_OK | os.W_OK):
        words = ["-nodefaults", "-display", "none", "-accel", "kvm", "-cpu", "max", "-m", "256M", "-no-reboot", "-serial", "stdio"]
        words += ["-kernel", str(lab_kernel()), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
        with subprocess.Popen(["qemu-system-x86_64", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            try:
                said, _ = process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
        assert b"Linux version" not in said


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="same name"), boot([LabGuest(name="a", command=["true"])] * 2):
        pass


def test_what_is_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    accelerator()
    with monkeypatch.context() as changed:
        changed.setenv("PATH", str(tmp_path))
        with pytest.raises(UnavailableError, match="apt-get install qemu-system-x86"), boot([LabGuest(name="a", command=["true"])]):
            pass
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UnavailableError, match=r"virtme-ng is not .*pip install virtme-ng"), boot([]):
        pass


def test_the_agents_command_finds_this_package_without_installed_ones() -> None:
    words = ["-c" if word == "-m" else word for word in lab.agent_command()[:-1]]
    shown = subprocess.run(
        [*words, "import toolkit.guests.wire, sys, json; print(json.dumps([toolkit.guests.wire.__file__, sys.flags.no_site]))"],
        env={"PYTHONPATH": lab._ENVIRONMENT["PYTHONPATH"]},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert json.loads(shown) == [str(Path(lab.__file__).with_name("wire.py")), 1]
