"""QEMU's command line for a lab guest, and what is refused before there is one."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import UsageError
from toolkit.guests.machine import LabGuest, Places, RngLimit, Unlimited, command_line, port_name
from toolkit.guests.scratch_disk import SERIAL
from toolkit.guests.wire import PORT_NAME

_TRUE = ("true",)


def _values(guest: LabGuest, option: str, folder: Path = Path("/f")) -> list[str]:
    line = command_line(
        guest, Places(folder, guest.name), qemu="qemu", image=Path("/boot/vmlinuz-1"), accelerator="tcg", init="rdinit=/i"
    )
    return [value for name, value in itertools.pairwise(line) if name == option]


def test_the_hosts_root_is_read_only_and_there_is_no_network() -> None:
    guest = LabGuest(name="a", command=_TRUE)
    (export,) = _values(guest, "-fsdev")
    assert "path=/," in export
    assert "readonly=on" in export
    everything = _values(guest, "-device") + _values(guest, "-netdev") + _values(guest, "-nic") + _values(guest, "-net")
    assert not [value for value in everything if "net" in value]


def test_a_limit_is_on_the_device_and_without_a_limit_nothing_is_said() -> None:
    def device(rng: Unlimited | RngLimit | None) -> list[str]:
        return [value for value in _values(LabGuest(name="a", command=_TRUE, rng=rng), "-device") if "rng" in value]

    assert device(RngLimit(max_bytes=1024, period_ms=1000)) == ["virtio-rng-pci,rng=rng,max-bytes=1024,period=1000"]
    assert device(Unlimited()) == ["virtio-rng-pci,rng=rng"]
    assert device(None) == []
    assert _values(LabGuest(name="a", command=_TRUE, rng=None), "-object") == []
    assert _values(LabGuest(name="a", command=_TRUE), "-object") == ["rng-random,id=rng,filename=/dev/urandom"]
    assert _values(LabGuest(name="a", command=_TRUE, rng=Unlimited(backend="builtin")), "-object") == ["rng-builtin,id=rng"]


def test_the_kernel_is_told_what_was_asked_for_after_what_is_ours() -> None:
    (said,) = _values(LabGuest(name="a", command=_TRUE, append="random.trust_cpu=off", cpu="qemu64"), "-append")
    assert said.endswith("rdinit=/i random.trust_cpu=off")
    assert _values(LabGuest(name="a", command=_TRUE, cpu="qemu64"), "-cpu") == ["qemu64"]


def test_thirty_one_ports_have_names_numbers_and_sockets_of_their_own() -> None:
    guest = LabGuest(name="a", command=_TRUE, ports=31)
    ports = [value for value in _values(guest, "-device") if value.startswith("driver=virtserialport,")]
    assert len(ports) == 31
    assert len({value.split("bus=")[1].split(",chardev")[0] for value in ports}) == 31
    # QEMU keeps the first of each device for a console.
    assert not [value for value in ports if "nr=0," in value or "nr=31," in value]
    assert len({value.split("path=")[1] for value in _values(guest, "-chardev")}) == 31 + 2
    assert ports[0].endswith(f"name={PORT_NAME}")
    assert port_name(0) == PORT_NAME


def test_a_disk_is_said_to_be_raw_whatever_its_name_and_content(tmp_path: Path) -> None:
    image = tmp_path / "a,b.qcow2"
    image.write_bytes(b"QFI\xfb")
    guest = LabGuest(name="a", command=_TRUE, disks=[image])
    guest.check()
    (backing,) = map(json.loads, _values(guest, "-blockdev"))
    assert (backing["driver"], backing["file"]["filename"]) == ("raw", str(image))


def test_a_comma_in_a_path_does_not_become_an_option() -> None:
    sockets = [value for value in _values(LabGuest(name="a", command=_TRUE), "-chardev", Path("/f,x=1")) if "socket" in value]
    assert all("/f,,x=1/" in value for value in sockets)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../x"},
        {"name": ""},
        {"name": "a" * 33},
        {"name": "a,b"},
        {"command": ()},
        {"ports": 0},
        {"ports": 32},
        {"cpus": 0},
        {"memory_bytes": 1 << 20},
        {"memory_bytes": (1 << 29) + 1},
        {"rng": RngLimit(max_bytes=0, period_ms=1000)},
        {"rng": RngLimit(max_bytes=1, period_ms=0)},
        {"rng": Unlimited(backend="egd")},  # type: ignore[arg-type]
        {"disks": [Path("/no/such/image")]},
        {"disks": [Path("/")]},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        LabGuest(**{"name": "a", "command": _TRUE} | wrong).check()


def test_a_folder_too_deep_for_sockets_is_refused_with_how_deep_it_may_be() -> None:
    Places(Path("/" + "d" * 93), "a").check()
    with pytest.raises(UsageError, match="at most"):
        Places(Path("/" + "d" * 60) / ("e" * 60), "a").check()


def test_only_the_scratch_disk_has_the_serial_number_by_which_an_agent_knows_it(tmp_path: Path) -> None:
    plain, scratch = tmp_path / "plain", tmp_path / "scratch"
    guest = LabGuest(name="a", command=_TRUE, disks=[plain], scratch_disk=scratch)
    first, second = (value for value in _values(guest, "-device") if value.startswith("virtio-blk"))
    assert "serial" not in first
    assert second.endswith(f",serial={SERIAL}")
    assert len(SERIAL) <= 20
    with pytest.raises(UsageError, match="no disk image"):
        guest.check()
    assert "virtio_blk" in LabGuest(name="a", command=_TRUE, scratch_disk=scratch).modules()
