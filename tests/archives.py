"""Archives of Debian packages made for a test: real packages and an index, reached through file:, without a signature."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.needs import require_tool
from toolkit.packages import Source


def made_archive(folder: Path, packages: dict[str, dict[str, bytes]], depends: dict[str, str] | None = None) -> Source:
    """An archive of packages, each given by the files in it."""
    build = require_tool("dpkg-deb")
    archive = folder / "archive"
    archive.mkdir(parents=True)
    index = []
    for name, files in packages.items():
        tree = folder / "trees" / name
        (tree / "DEBIAN").mkdir(parents=True)
        fields = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\nDescription: made for a test\n"
        if depends and name in depends:
            fields += f"Depends: {depends[name]}\n"
        (tree / "DEBIAN/control").write_text(fields)
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        file = archive / f"{name}_1.0_all.deb"
        subprocess.run([build, "--build", "-Znone", "--root-owner-group", tree, file], check=True, capture_output=True)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        index.append(f"{fields}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n")
    (archive / "Packages").write_text("\n".join(index))
    return Source(f"file:{archive}", "./", components=(), trusted=True)
