"""Kernels for lab guests: those installed here, and those of other suites, fetched into the cache without being installed.

A fetched kernel is Debian's cloud kernel where there is one: a third of the size, with virtio-rng, virtio-console, virtio-blk and
hw_random, and without 9p. So it boots guests whose root is an initramfs, not those whose root is the host's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from toolkit.errors import UnavailableError, UsageError
from toolkit.filesystems import Support
from toolkit.package_cache import PackageSet, fetched
from toolkit.packages import Index, Source, fetch, own_source
from toolkit.programs import run_limited
from toolkit.progress import Progress, silent

__all__ = [
    "TINY_MODULES",
    "GuestKernel",
    "fetch_kernel",
    "find_kernels",
    "kernel_of",
    "kernels",
    "kernels_in",
    "module_name",
    "supports_kernels",
]

#: What a guest cannot do without whose root is an initramfs: its random number generator and its channel.
TINY_MODULES = ("virtio_pci", "virtio_rng", "virtio_console")

_PREFIX = "vmlinuz-"
_SET = "kernel-"
#: The package that stands for a suite's kernel, the smaller one first.
_METAPACKAGES = ("linux-image-cloud-amd64", "linux-image-amd64")
#: What a kernel's package needs of the same build: since 2026 its image and its modules are packages of their own.
_SAME_BUILD = re.compile(r"(?:^|, *)(linux-[a-z0-9.+-]+) \(= [^)]+\)")
_DEPMOD_S = 120.0

_MORE = "Get another: toolkit lab fetch --kernel SUITE, such as bullseye (5.10), bookworm-backports or trixie."
_OTHER = "Use another kernel: as root, apt-get install linux-image-amd64, or toolkit lab fetch --kernel bullseye."


@dataclass(frozen=True)
class GuestKernel:
    """A kernel image whose modules are there.

    Attributes
    ----------
    image : Path
        Such as /boot/vmlinuz-6.1.0-56-amd64.
    version : str
        What ``uname -r`` says under it.
    folder : Path
        Its modules, such as /lib/modules/6.1.0-56-amd64.
    """

    image: Path
    version: str
    folder: Path

    def modules(self, names: Iterable[str]) -> list[Path]:
        """The files of modules and of what they depend on, in the order in which they can be loaded; none for what is built in.

        Raises
        ------
        UnavailableError
            If this kernel has no such module.
        """
        by_name = self._dependencies()
        built_in = {module_name(line) for line in _lines(self.folder / "modules.builtin")}
        found: dict[str, None] = {}
        for name in names:
            if name in by_name:
                # modules.dep(5) names what a module needs after it, what must be loaded first last.
                found |= dict.fromkeys(reversed(by_name[name]))
            elif name not in built_in:
                raise UnavailableError(f"The kernel {self.version} has no module {name}", _OTHER)
        return [self.folder / path for path in found]

    def why_not(self, names: Iterable[str]) -> str | None:
        """Why a guest cannot be booted with it that needs these modules; None if it can."""
        try:
            with self.image.open("rb"):
                pass
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        if not (self.folder / "modules.dep").is_file():
            return f"it has no modules in {self.folder}"
        try:
            self.modules(names)
        except UnavailableError as error:
            return error.what[0].lower() + error.what[1:]
        return None

    def _dependencies(self) -> dict[str, list[str]]:
        found = {}
        for line in _lines(self.folder / "modules.dep"):
            path, _, needs = line.partition(":")
            found[module_name(path)] = [path, *needs.split()]
        return found


def module_name(path: str | Path) -> str:
    """The kernel's name for a module's file.

    Examples
    --------
    >>> module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz")
    'virtio_rng'
    """
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def kernels(root: Path = Path("/")) -> list[GuestKernel]:
    """All kernels that a guest of kernel and initramfs can boot: installed ones and fetched ones, the newest first.

    Parameters
    ----------
    root : Path
        Where boot and lib/modules are looked for, beside the cache.

    Returns
    -------
    list of GuestKernel
        A version that is both installed and fetched is there once, as installed. None where there is none.

    Raises
    ------
    UnavailableError
        If the cache is not to be trusted.

    Examples
    --------
    >>> [kernel.version for kernel in kernels()]  # doctest: +SKIP
    ['6.1.0-56-amd64', '5.10.0-32-cloud-amd64']
    """
    found: dict[str, GuestKernel] = {}
    for place in (root, *(each.folder for each in fetched() if each.name.startswith(_SET))):
        for kernel in kernels_in(place):
            if kernel.version not in found and kernel.why_not(TINY_MODULES) is None:
                found[kernel.version] = kernel
    return sorted(found.values(), key=lambda kernel: _age(kernel.version), reverse=True)


def kernels_in(root: Path) -> list[GuestKernel]:
    """The kernel images below a root, the newest first, whether or not a guest can boot them."""
    images = sorted((root / "boot").glob(f"{_PREFIX}*"), key=lambda image: _age(image.name), reverse=True)
    versions = [image.name.removeprefix(_PREFIX) for image in images]
    return [GuestKernel(image, version, root / "lib/modules" / version) for image, version in zip(images, versions, strict=True)]


def find_kernels(words: Sequence[str] = ("newest",), root: Path = Path("/")) -> list[GuestKernel]:
    """The kernels that words choose among :func:`kernels`.

    Parameters
    ----------
    words : sequence of str
        Each of them a version (``6.1.0-56-amd64``), the beginning of one (``5.10``: all that begin so; ``5.1`` is not the beginning
        of 5.10), ``newest``, ``oldest`` or ``all``.
    root : Path
        As in :func:`kernels`.

    Returns
    -------
    list of GuestKernel
        In the order of the words, each once.

    Raises
    ------
    UnavailableError
        If a word chooses none; it says which there are and how to get more.
    UsageError
        If there is no word.
    """
    if not words:
        raise UsageError("no kernel is chosen", "Give a version or its beginning, newest, oldest or all.")
    there = kernels(root)
    chosen: dict[str, GuestKernel] = {}
    for word in words:
        known = {"newest": there[:1], "oldest": there[-1:], "all": there}
        matching = known.get(word, [kernel for kernel in there if _begins(kernel.version, word)])
        if not matching:
            names = ", ".join(kernel.version for kernel in there) or "none at all"
            raise UnavailableError(f"There is no kernel {word} for lab guests here; there are: {names}", _MORE)
        chosen |= {kernel.version: kernel for kernel in matching}
    return list(chosen.values())


def fetch_kernel(wanted: str, progress: Progress = silent, source: Source | None = None) -> PackageSet:
    """The kernel of a suite in the cache; fetched if it is not there yet.

    Parameters
    ----------
    wanted : str
        The name of a suite, such as ``bullseye``, for its newest kernel; or a package of it and the suite as apt writes them,
        such as ``linux-image-5.10.0-30-cloud-amd64/bullseye``.
    progress : Progress
    source : Source, optional
        Where the suite is found; by default on this machine's own mirror.

    Returns
    -------
    PackageSet
        :func:`kernel_of` gives its kernel.

    Raises
    ------
    UnavailableError
        If there is no apt, no network, no such suite or package, or the kernel lacks what guests need.
    UsageError
        If the name cannot be meant.

    Examples
    --------
    >>> kernel_of(fetch_kernel("bullseye")).version  # doctest: +SKIP
    '5.10.0-32-cloud-amd64'
    """
    package, _, suite = wanted.rpartition("/") if wanted.startswith("linux-") else ("", "", wanted)
    source = source or own_source(suite)

    def choose(index: Index) -> list[str]:
        return _same_build(index, [package] if package else list(_METAPACKAGES))

    name = _SET + re.sub(r"[^a-z0-9.+-]", "_", f"{suite}-{package}" if package else suite)
    return fetch(name, source, choose, _install, progress)


def kernel_of(found: PackageSet) -> GuestKernel:
    """The kernel of a set that was fetched.

    Raises
    ------
    UnavailableError
        If there is none in it, or guests need what it lacks.
    """
    return _kernel_in(found.folder)


def supports_kernels() -> Support:
    """Whether there are kernels for guests of kernel and initramfs, and which."""
    try:
        there = kernels()
    except UnavailableError as error:
        return Support(False, error.what, error.remedy)
    if not there:
        return Support(False, "no kernel with virtio_rng and virtio_console is installed or was fetched", _MORE)
    return Support(True, ", ".join(kernel.version for kernel in there))


def _same_build(index: Index, candidates: Sequence[str]) -> list[str]:
    """The first of the candidates that there is, with all that it needs of its own build."""
    for number, candidate in enumerate(candidates):
        try:
            index.fields(candidate)
        except UnavailableError:
            if number == len(candidates) - 1:
                raise
        else:
            break
    chosen, left = {}, [candidate]
    while left:
        name = left.pop()
        if name not in chosen:
            chosen[name] = index.fields(name)
            left += _SAME_BUILD.findall(chosen[name].get("Depends", ""))
    return list(chosen)


def _install(tree: Path) -> None:
    """What installing the package would do: bring all to where it is looked for, and list what each module depends on."""
    lib = tree / "lib"
    if lib.is_dir() and not lib.is_symlink():
        # An older suite, in which /lib is no link into /usr yet.
        for path in lib.iterdir():
            (tree / "usr/lib").mkdir(parents=True, exist_ok=True)
            path.rename(tree / "usr/lib" / path.name)
        lib.rmdir()
    if not lib.is_symlink():
        lib.symlink_to("usr/lib")
    (tree / "boot").mkdir(exist_ok=True)
    for image in (tree / "usr/lib/modules").glob("*/vmlinuz"):
        image.rename(tree / "boot" / f"{_PREFIX}{image.parent.name}")  # from 7.x on it lies beside its modules
    for image in (tree / "boot").glob(f"{_PREFIX}*"):
        run_limited(["depmod", "--basedir", str(tree), image.name.removeprefix(_PREFIX)], tree.parent, _DEPMOD_S)
    _kernel_in(tree)


def _kernel_in(tree: Path) -> GuestKernel:
    found = kernels_in(tree)
    if not found:
        raise UnavailableError("The packages hold no kernel", _MORE)
    if (why_not := found[0].why_not(TINY_MODULES)) is not None:
        raise UnavailableError(f"Lab guests cannot boot the kernel {found[0].version}: {why_not}", _MORE)
    return found[0]


def _begins(version: str, word: str) -> bool:
    return version == word or (bool(word) and version.startswith((f"{word}.", f"{word}-", f"{word}+")))


def _age(version: str) -> list[tuple[int, str]]:
    """A version's numbers as numbers: 6.10 is newer than 6.9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", version)]


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
