"""Debian packages without installing them: downloaded and verified by apt, unpacked into the cache.

Installing is not harmless: the feeders' packages start daemons that would spoil what is measured, and a kernel's package writes to
/boot. So apt is given lists, archives and a state of its own, as any user, and the system's hooks are left out; the mirror, a proxy
and credentials are those that the system's apt is configured with. Nothing but apt decides whether a package is genuine: an index
must be signed with the distribution's key and a package must have the hash that the index says.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UnavailableError, UsageError
from toolkit.package_cache import Package, PackageSet, make_set
from toolkit.programs import NETWORK, required_program, run_limited
from toolkit.progress import Progress, part, silent

__all__ = ["Index", "Source", "fetch", "own_source"]


#: Where the distributions keep the keys of all their suites.
_KEYRINGS = {origin: Path(f"/usr/share/keyrings/{origin.lower()}-archive-keyring.gpg") for origin in ("Debian", "Ubuntu")}

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_SUITE = re.compile(r"[a-z0-9][a-z0-9.-]*(/updates|/)?|\./")

_UPDATE_S, _SHOW_S, _DOWNLOAD_S, _UNPACK_S = 600.0, 60.0, 3600.0, 600.0


@dataclass(frozen=True)
class Source:
    """Where packages come from: a line of sources.list(5).

    Attributes
    ----------
    uri, suite : str
        Such as the mirror's address and ``bookworm``.
    components : tuple of str
        Such as ``main``; none for a flat archive.
    keyring : Path or None
        The keys one of which must have signed the index; None for those that the system trusts.
    trusted : bool
        Whether an index without any signature is believed: for an archive of one's own.
    """

    uri: str
    suite: str
    components: tuple[str, ...] = ("main",)
    keyring: Path | None = None
    trusted: bool = False

    def line(self) -> str:
        """The line."""
        options = ["trusted=yes"] * self.trusted + [f"signed-by={self.keyring}"] * (self.keyring is not None)
        return " ".join(["deb", *([f"[{' '.join(options)}]"] if options else []), self.uri, self.suite, *self.components])


class Index:
    """The index of one source as apt has it: what a package's fields are.

    A class, because apt must be told each time where its files are.
    """

    def __init__(self, work: Path, configuration: Path, suite: str) -> None:
        self._work, self._configuration, self._suite = work, configuration, suite

    def fields(self, name: str) -> dict[str, str]:
        """The fields of the newest version of a package, such as Version, Depends and Size.

        Raises
        ------
        UnavailableError
            If there is no such package.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name of a package", "Write it as apt does, such as linux-image-cloud-amd64.")
        try:
            said = self.apt("apt-cache", "show", "--no-all-versions", name, limit_s=_SHOW_S)
        except UnavailableError as error:
            why = f"There is no package {name} in {self._suite}"
            raise UnavailableError(why, f"Name another suite, or look for it there: apt-cache search {name}.") from error
        fields = dict(re.findall(r"^([A-Za-z0-9-]+): *(.*)$", said.partition("\n\n")[0], flags=re.MULTILINE))
        if not {"Package", "Version", "Size", "Filename"} <= fields.keys() or not fields["Size"].isdigit():
            # A name that others only provide.
            raise UnavailableError(f"{name} in {self._suite} is no package that can be downloaded", "Name the package itself.")
        return fields

    def apt(self, *command: str, limit_s: float, watch: Callable[[], None] | None = None) -> str:
        """Run one of apt's programs on this index; what it said."""
        program, *words = command
        return run_limited([program, "-c", str(self._configuration), *words], self._work, limit_s, watch)


def own_source(suite: str | None = None) -> Source:
    """Where this machine's own packages come from, and those of other suites on the same mirror.

    Parameters
    ----------
    suite : str, optional
        The name of another suite, such as ``bullseye``, ``bookworm-backports`` or ``bullseye-security``; by default this
        machine's own.

    Raises
    ------
    UnavailableError
        If there is no apt here, or it has no sources.
    UsageError
        If that cannot be the name of a suite.

    Examples
    --------
    >>> own_source("bullseye").suite  # doctest: +SKIP
    'bullseye'
    """
    if suite is not None and not _SUITE.fullmatch(suite):
        raise UsageError(f"{suite!r} is no name of a suite", "Write it as in sources.list, such as bullseye or bookworm-backports.")
    command = [
        required_program("apt-get"),
        "indextargets",
        "--format",
        "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)",
        "Created-By: Packages",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=_SHOW_S)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"apt-get has not ended within {_SHOW_S:.0f} s", "See whether another apt is running.") from error
    targets = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 3]
    mains = [(uri, release, origin) for uri, release, component, origin in targets if component == "main"]
    if not mains:
        raise UnavailableError("This machine's apt has no sources of packages", "Add this distribution's to /etc/apt/sources.list.")
    codename = _codename()
    wanted = suite or codename
    plain = [each for each in mains if each[1] == codename] or [each for each in mains if not _is_security(each[1])]
    chosen = [each for each in mains if _is_security(each[1])] if _is_security(wanted) else plain
    if not chosen:
        kind = "security updates" if _is_security(wanted) else "anything but security updates"
        raise UnavailableError(f"This machine's apt has no source of {kind}", "Add one to /etc/apt/sources.list.")
    uri, release, origin = chosen[0]
    keyring = _KEYRINGS.get(origin) or next((path for path in _KEYRINGS.values() if path.is_file()), None)
    return Source(uri, suite or release, keyring=keyring if keyring is not None and keyring.is_file() else None)


def fetch(
    name: str,
    source: Source,
    choose: Callable[[Index], list[str]],
    finish: Callable[[Path], None] = lambda _: None,
    progress: Progress = silent,
) -> PackageSet:
    """Packages of a source, unpacked in the cache; those that are there already are given at once, without the network.

    Parameters
    ----------
    name : str
        Of the set in the cache.
    source : Source
    choose : callable
        Given the source's index; gives the names of the packages to unpack, all of that source. What they depend on is not added.
    finish : callable
        Given the folder they were unpacked into, does what a package's installation would; the set is complete after it.
    progress : Progress
        Told what is being done.

    Returns
    -------
    PackageSet

    Raises
    ------
    UnavailableError
        If there is no apt or no network, no such suite or package, if what came is not what was signed, or if there is no room.
    """

    def make(work: Path, tree: Path) -> list[Package]:
        progress(0, 100, f"asking for the packages of {source.suite}")
        index = _updated(work, source)
        wanted = [index.fields(package) for package in choose(index)]
        chosen = [Package(each["Package"], each["Version"], int(each["Size"])) for each in wanted]
        _download(work, chosen, part(progress, 10, 70, 100))
        for number, file in enumerate(sorted(work.glob("archives/*.deb"))):
            progress(70 + 25 * number / len(chosen), 100, f"unpacking {file.name.partition('_')[0]}")
            run_limited(["dpkg-deb", "--extract", str(file), str(tree)], work, _UNPACK_S)
            file.unlink()
        progress(95, 100, "finishing")
        finish(tree)
        return chosen

    return make_set(name, source.suite, make, progress)


def _updated(work: Path, source: Source) -> Index:
    """An apt of its own in a folder, with the index of one source."""
    if re.search(r'["\\\s{};]', str(work)):
        raise UnavailableError(f"apt cannot be given the folder {work}", "Set TOOLKIT_CACHE to a path without blanks and quotes.")
    for folder in ("state/lists/partial", "cache/archives/partial", "archives"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources.list").write_text(source.line() + "\n", encoding="utf-8")
    configuration = work / "apt.conf"
    configuration.write_text(_configuration(work), encoding="utf-8")
    index = Index(work, configuration, source.suite)
    try:
        index.apt("apt-get", "update", limit_s=_UPDATE_S)
    except UnavailableError as error:
        remedy = error.remedy
        if "does not have a Release file" in error.what or "404" in error.what:
            remedy = "Name a suite that this machine's mirror has, such as bullseye, bookworm-backports or trixie."
        elif "NO_PUBKEY" in error.what or "not signed" in error.what:
            remedy = "Run as root: apt-get install debian-archive-keyring (its newest knows the keys of more suites)."
        raise UnavailableError(f"The packages of {source.suite} cannot be listed: {error.what}", remedy) from error
    return index


def _configuration(work: Path) -> str:
    """What is said after all of the system's own configuration: its hooks are for its own state, which is not touched here."""
    hooks = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")
    settings = {
        "Dir::State": work / "state", "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache", "Dir::Cache::pkgcache": "pkgcache.bin", "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
        "Dir::Etc::sourcelist": work / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
        # Its own user for downloads could not look into a private folder.
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any", "APT::Get::AllowUnauthenticated": "false",
        "Acquire::AllowInsecureRepositories": "false", "Acquire::AllowWeakRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
        "Acquire::GzipIndexes": "false", "Acquire::Languages": "none",
        "Acquire::Retries": "2", "Acquire::http::Timeout": "30", "Acquire::https::Timeout": "30",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false", "APT::Color": "false",
    }  # fmt: skip
    return "".join([*(f"#clear {hook};\n" for hook in hooks), *(f'{name} "{value}";\n' for name, value in settings.items())])


def _download(work: Path, packages: list[Package], progress: Progress) -> None:
    folder = work / "archives"
    total = sum(package.download_bytes for package in packages)
    # Unpacked they take up to six times as much.
    found = os.statvfs(work)
    if found.f_bavail * found.f_frsize < total * 8:
        raise UnavailableError(
            f"{work.parent.parent} has too little room for {total // 2**20} MiB of packages and what is in them",
            "Make room there, or set TOOLKIT_CACHE to another folder.",
        )
    words = f"downloading {packages[0].name}" + (f" and {len(packages) - 1} more" if packages[1:] else "")

    def watch() -> None:
        came = 0
        for file in (*folder.glob("*"), *(work / "cache/archives/partial").glob("*")):
            with contextlib.suppress(OSError):
                came += file.stat().st_size
        progress(min(came, total), total, words)

    # apt-get download writes into the folder it is run in.
    here = Index(folder, work / "apt.conf", "")
    here.apt("apt-get", "download", *(f"{each.name}={each.version}" for each in packages), limit_s=_DOWNLOAD_S, watch=watch)
    if (came := len(list(folder.glob("*.deb")))) != len(packages):
        raise UnavailableError(f"apt downloaded {came} of {len(packages)} packages", NETWORK)


def _codename() -> str:
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r'^VERSION_CODENAME="?([a-z0-9.-]+)"?$', text, flags=re.MULTILINE)
    return found[1] if found else ""


def _is_security(suite: str) -> bool:
    return suite.endswith(("-security", "/updates"))
