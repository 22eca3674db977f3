"""What lab guests need: which kernel they get and its modules, from made folders and from this machine; and what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.needs import need
from toolkit.errors import UnavailableError
from toolkit.lab_needs import NEEDED_MODULES, can_boot, guest_kernel


def _installed(root: Path, version: str, modules: tuple[str, ...] = NEEDED_MODULES, built_in: tuple[str, ...] = ()) -> None:
    (root / "boot").mkdir(exist_ok=True)
    (root / f"boot/vmlinuz-{version}").write_bytes(b"x")
    folder = root / "lib/modules" / version
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text("".join(f"kernel/{name}.ko:\n" for name in modules))
    (folder / "modules.builtin").write_text("".join(f"kernel/{name}.ko\n" for name in built_in))


def test_the_newest_is_taken_by_number_and_not_by_letter(tmp_path: Path) -> None:
    for version in ("6.1.0-9-amd64", "6.1.0-56-amd64", "5.10.0-30-amd64"):
        _installed(tmp_path, version)
    assert guest_kernel(tmp_path).version == "6.1.0-56-amd64"


def test_a_newer_one_without_9p_or_without_modules_is_passed_over(tmp_path: Path) -> None:
    _installed(tmp_path, "6.1.0-56-amd64", NEEDED_MODULES[1:], built_in=NEEDED_MODULES[:1])
    _installed(tmp_path, "6.12.1-cloud-amd64", NEEDED_MODULES[1:])
    (tmp_path / "boot/vmlinuz-6.13.0-amd64").write_bytes(b"x")
    assert guest_kernel(tmp_path).version == "6.1.0-56-amd64"


def test_where_there_is_none_it_says_what_was_found_and_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"there is no .*apt-get install linux-image-amd64"):
        guest_kernel(tmp_path)
    _installed(tmp_path, "6.12.1-cloud-amd64", NEEDED_MODULES[1:])
    with pytest.raises(UnavailableError, match=r"6\.12\.1-cloud-amd64: .* has no module 9p"):
        guest_kernel(tmp_path)


def test_modules_come_after_what_they_need_and_once(tmp_path: Path) -> None:
    _installed(tmp_path, "6.1")
    folder = tmp_path / "lib/modules/6.1"
    with (folder / "modules.dep").open("a") as listed:
        listed.write("a/x-y.ko.xz: a/b.ko a/c.ko\na/b.ko: a/c.ko\na/c.ko:\n")
    (folder / "modules.builtin").write_text("a/in.ko\n")
    kernel = guest_kernel(tmp_path)
    assert [path.name for path in kernel.modules(["b", "in", "x_y"])] == ["c.ko", "b.ko", "x-y.ko.xz"]
    with pytest.raises(UnavailableError, match="no module virtio_rng"):
        kernel.modules(["virtio_rng"])


def test_the_modules_of_this_machines_kernel_are_there() -> None:
    need(any(Path("/boot").glob("vmlinuz-*")), "a kernel in /boot")
    found = guest_kernel().modules([*NEEDED_MODULES, "virtio_rng", "virtio_blk"])
    assert all(path.is_file() for path in found)


def test_all_that_is_missing_is_named_at_once_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("toolkit.filesystems._SYSTEM_PROGRAMS", ())
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    support = can_boot()
    assert not support.available
    for word in ("qemu-system-x86", "virtme-ng", "busybox"):
        assert word in support.detail
        assert word in (support.remedy or "")


def test_what_is_there_is_named_and_kvm_is_not_promised() -> None:
    support = can_boot()
    need(support.available, support.detail)
    assert "kernel " in support.detail
    assert support.detail.endswith("TCG")
