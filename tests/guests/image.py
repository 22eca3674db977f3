"""One small Debian that the tests' domain boots, made once a machine and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.needs import need, require_root, require_tool

#: What makes an image another image: change a word of it, and it is made anew.
_PACKAGES = ["systemd-sysv", "python3", "qemu-guest-agent", "udev", "kmod", "linux-image-cloud-amd64"]
_SIZE = "1200M"
_STEPS = "3"


@dataclass(frozen=True)
class Image:
    """A root file system, the kernel in it and its initrd."""

    disk: Path
    kernel: Path
    initrd: Path


def debian_image() -> Image:
    """The image, made if it is not there; it appears whole or not at all."""
    source = _own_source()
    recipe = hashlib.sha256("\n".join([source, *_PACKAGES, _SIZE, _STEPS]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "virt-toolkit-tests"
    made = cache / f"debian-{recipe}"
    if not made.exists():
        require_root()
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=cache, prefix="making-") as folder:
            _make(Path(folder), source)
            _publish(Path(folder) / "image", made)
    return Image(made / "disk", made / "vmlinuz", made / "initrd.img")


def _own_source() -> str:
    """The mirror that this machine itself is installed from, for its own suite."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "").strip('"')
    wanted = ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT)", "Created-By: Packages", "Origin: Debian"]
    need(shutil.which("apt-get") is not None, "Debian's apt")
    listed = subprocess.run(wanted, capture_output=True, text=True, check=True).stdout
    sites = [line.split()[0] for line in listed.splitlines() if line.split()[1:] == [suite, "main"]]
    need(bool(sites), f"a Debian mirror for {suite or 'its suite'} among this machine's apt sources")
    return f"deb {sites[0]} {suite} main"


def _make(folder: Path, source: str) -> None:
    root, image = folder / "root", folder / "image"
    image.mkdir()
    command = [require_tool("mmdebstrap"), "--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
    # Nothing but what the tests ask for runs in it: neither apt's nor the file system's timers.
    command += [
        "--customize-hook=chroot $1 systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer"
    ]
    command += ["--customize-hook=echo guest > $1/etc/hostname", "--customize-hook=rm -rf $1/usr/share/doc $1/usr/share/locale"]
    done = subprocess.run([*command, "", str(root), source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("vmlinuz", "initrd.img"):
        (found,) = (root / "boot").glob(f"{name}-*")
        shutil.copyfile(found, image / name)
    mkfs = [require_tool("mkfs.ext4"), "-q", "-d", str(root), str(image / "disk"), _SIZE]
    done = subprocess.run(mkfs, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def _publish(image: Path, made: Path) -> None:
    try:
        image.rename(made)
    except OSError:
        assert made.exists()  # somebody else made it in the meantime
