"""What counts as a sign that KVM works, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.needs import require_lab
from toolkit.guests import accelerator as module
from toolkit.guests.accelerator import Accelerator, accelerator
from toolkit.guests.kept import Kept
from toolkit.lab_kernels import GuestKernel
from toolkit.lab_needs import find_qemu, guest_kernel


def _judged(command: list[str], folder: Path) -> Accelerator:
    with Kept([command], [folder / "console"], folder) as (process,):
        return module._judged(process)


@pytest.mark.lab
def test_a_kernel_that_begins_is_seen_by_its_first_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under TCG, which works anywhere, only more slowly."""
    require_lab()
    monkeypatch.setattr(module, "_PATIENCE_S", 60.0)
    assert _judged(module._beginning(find_qemu(), guest_kernel().image, "tcg"), tmp_path).name == "kvm"


def test_firmware_alone_is_no_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.5)
    found = _judged(["sh", "-c", "echo SeaBIOS; echo Booting from ROM...; sleep 1000"], tmp_path)
    assert (found.name, "said nothing" in found.why) == ("tcg", True)


def test_a_qemu_that_ends_is_quoted_with_nothing_that_acts(tmp_path: Path) -> None:
    found = _judged(["sh", "-c", r"printf 'could not\n\033[31maccess KVM'"], tmp_path)
    assert found.name == "tcg"
    assert r"could not \x1b[31maccess KVM" in found.why


def test_a_kernel_that_begins_and_panics_at_once_has_begun(tmp_path: Path) -> None:
    assert _judged(["echo", "[    0.000000] Linux version 6.1"], tmp_path).name == "kvm"


def test_the_kernel_that_guests_boot_is_the_one_that_shows_it_and_it_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def beginning(_qemu: str, image: Path, _name: str) -> list[str]:
        asked.append(image)
        return ["echo", "Linux version 5.10"]

    (tmp_path / "kvm").touch()
    monkeypatch.setattr(module, "find_qemu", lambda: "qemu")
    monkeypatch.setattr(module, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(module, "_beginning", beginning)
    monkeypatch.setattr(module, "_answers", [])
    fetched = GuestKernel(tmp_path / "vmlinuz", "5.10", tmp_path)
    found = accelerator(fetched)
    assert found.name == "kvm"
    assert accelerator() is found
    assert asked == [fetched.image]
