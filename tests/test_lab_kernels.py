"""Kernels and feeders for lab guests: found among what is installed and fetched, chosen by words, and fetched for real once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.archives import made_archive
from tests.kernels import all_feeders, other_kernel, shared_cache
from tests.needs import require_tool
from toolkit.errors import UnavailableError, UsageError
from toolkit.lab_feeders import FEEDERS, find_feeder, find_rngtest, supports_feeders
from toolkit.lab_kernels import TINY_MODULES, fetch_kernel, find_kernels, kernel_of, kernels, supports_kernels
from toolkit.shared_libraries import files_of_program, read_elf


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def installed(root: Path, version: str, modules: tuple[str, ...] = TINY_MODULES) -> None:
    (root / "boot").mkdir(exist_ok=True)
    (root / f"boot/vmlinuz-{version}").write_bytes(b"x")
    folder = root / "lib/modules" / version
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text("".join(f"kernel/{name}.ko:\n" for name in modules))


def built_in(version: str, at: str = "usr/lib/modules") -> dict[str, bytes]:
    return {f"{at}/{version}/modules.builtin": b"".join(b"kernel/%s.ko\n" % name.encode() for name in TINY_MODULES)}


def test_words_choose_by_version_beginning_age_or_all(cache: Path, tmp_path: Path) -> None:
    for version in ("5.10.0-30-amd64", "6.1.0-9-amd64", "6.1.0-56-cloud-amd64", "6.12.95+deb12-cloud-amd64"):
        installed(tmp_path, version)
    installed(tmp_path, "7.0.0-amd64", TINY_MODULES[1:])

    def chosen(*words: str) -> list[str]:
        return [kernel.version for kernel in find_kernels(words, tmp_path)]

    assert chosen("newest") == chosen("6.12") == chosen("6.12.95") == ["6.12.95+deb12-cloud-amd64"]
    assert chosen("oldest", "5.10") == ["5.10.0-30-amd64"]
    assert chosen("6.1") == ["6.1.0-56-cloud-amd64", "6.1.0-9-amd64"]
    assert chosen("6.1.0-9-amd64", "newest") == ["6.1.0-9-amd64", "6.12.95+deb12-cloud-amd64"]
    assert len(chosen("all")) == 4
    for word in ("5.1", "7.0", "6", ""):
        if word == "6":
            assert len(chosen(word)) == 3
            continue
        with pytest.raises(UnavailableError, match=r"5\.10\.0-30-amd64.*toolkit lab fetch --kernel"):
            chosen(word)
    with pytest.raises(UsageError):
        chosen()


def test_where_there_is_none_it_is_said_with_the_way_to_get_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnavailableError, match=r"none at all.*lab fetch"):
        find_kernels(["all"], tmp_path)
    monkeypatch.setattr("toolkit.lab_kernels.kernels", list)
    assert (supports_kernels().available, "lab fetch" in (supports_kernels().remedy or "")) == (False, True)


def test_a_kernel_in_one_package_or_in_three_is_found_with_all_of_its_build(cache: Path, tmp_path: Path) -> None:
    require_tool("depmod")
    source = made_archive(
        tmp_path,
        {
            "linux-image-amd64": {},
            "linux-image-5.9-amd64": {"boot/vmlinuz-5.9-amd64": b"old", **built_in("5.9-amd64", "lib/modules")},
            "linux-image-7.3-cloud": {},
            "linux-binary-7.3-cloud": {"usr/lib/modules/7.3-cloud/vmlinuz": b"new"},
            "linux-modules-7.3-cloud": built_in("7.3-cloud"),
            "kmod": {"usr/bin/kmod": b"not wanted"},
        },
        depends={
            "linux-image-amd64": "linux-image-5.9-amd64 (= 1.0)",
            "linux-image-5.9-amd64": "kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120) | linux-initramfs-tool",
            "linux-image-7.3-cloud": "kmod, linux-binary-7.3-cloud (= 1.0), linux-modules-7.3-cloud (= 1.0)",
        },
    )
    old = kernel_of(fetch_kernel("old", source=source))
    new = kernel_of(fetch_kernel("linux-image-7.3-cloud/new", source=source))
    assert (old.version, old.image.read_bytes()) == ("5.9-amd64", b"old")
    assert (new.version, new.image.read_bytes()) == ("7.3-cloud", b"new")
    assert all((kernel.folder / "modules.dep").is_file() for kernel in (old, new))
    assert [kernel.version for kernel in kernels(tmp_path)] == ["7.3-cloud", "5.9-amd64"]
    assert not list(cache.rglob("kmod"))


def test_a_package_without_a_kernel_or_with_one_that_guests_cannot_use_is_not_kept(cache: Path, tmp_path: Path) -> None:
    require_tool("depmod")
    source = made_archive(
        tmp_path,
        {
            "linux-image-none": {"usr/share/x": b"x"},
            "linux-image-5.9-bare": {"boot/vmlinuz-5.9": b"x", "lib/modules/5.9/modules.builtin": b"kernel/virtio_pci.ko\n"},
        },
    )
    with pytest.raises(UnavailableError, match="hold no kernel"):
        fetch_kernel("linux-image-none/x", source=source)
    with pytest.raises(UnavailableError, match=r"5\.9: .*no module virtio_rng"):
        fetch_kernel("linux-image-5.9-bare/x", source=source)
    assert kernels(tmp_path) == []


def test_a_kernel_of_another_suite_is_there_with_its_modules() -> None:
    kernel = other_kernel()
    assert kernel.version.startswith("5.10.")
    assert kernel.image.stat().st_size > 2**20
    files = kernel.modules(TINY_MODULES)
    assert {"virtio-rng", "virtio_console"} <= {path.name.partition(".")[0] for path in files}
    assert all(path.is_file() for path in files)
    with shared_cache():
        assert kernel in find_kernels(["5.10"])
        assert kernel.version in supports_kernels().detail


def test_feeders_come_with_all_that_they_are_loaded_from() -> None:
    all_feeders()
    with shared_cache():
        for name in FEEDERS:
            feeder = find_feeder(name)
            assert feeder.command[0] in feeder.files
            assert {"/lib64/ld-linux-x86-64.so.2"} <= set(feeder.files) or os.uname().machine != "x86_64"
            assert all(path.is_file() and not path.is_symlink() for path in feeder.files.values())
            needed = {Path(path).name for path in feeder.files}
            for path in feeder.files.values():
                assert set(read_elf(path).needed) <= needed
        assert supports_feeders().available
        done = subprocess.run([find_rngtest(), "--version"], capture_output=True, text=True, check=True)
        assert "rngtest" in done.stdout + done.stderr
        with pytest.raises(UsageError, match="rngd, haveged"):
            find_feeder("telepathy")


def test_feeders_that_were_not_fetched_are_said_with_the_way_to_get_them(cache: Path) -> None:
    with pytest.raises(UnavailableError, match="toolkit lab fetch --feeders"):
        find_feeder("rngd")
    assert not supports_feeders().available


def test_the_libraries_of_a_program_are_those_that_the_loader_says(tmp_path: Path) -> None:
    program = Path(require_tool("bash")).resolve()
    files = files_of_program(program, "/bin/bash", [Path("/")])
    loader = next(path for path in files if Path(path).name.startswith("ld-"))
    said = subprocess.run([loader, "--list", program], capture_output=True, text=True, check=True).stdout
    theirs = {Path(line.split("=>")[1].split()[0]).resolve() for line in said.splitlines() if "=>" in line}
    assert theirs <= set(files.values())
    assert set(files.values()) - theirs <= {program, Path(loader).resolve()}


def test_what_is_no_program_or_was_cut_is_said_to_be_none(tmp_path: Path) -> None:
    program = Path(require_tool("bash")).resolve().read_bytes()
    for number, content in enumerate([b"", b"#!/bin/sh\n", program[:40], program[:200], b"\x7fELF\x02\x01" + b"\xff" * 200]):
        path = tmp_path / str(number)
        path.write_bytes(content)
        with pytest.raises(UnavailableError, match="no 64-bit ELF file"):
            read_elf(path)
