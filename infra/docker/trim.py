"""Take out of a virtual environment what no program needs at work: pip, tests of packages, headers, sources."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

FOLDERS = ("tests", "include")
FILES = (".pyx", ".pxd", ".pyi", ".h", ".hpp", ".c", ".cc")


def main(environment: Path) -> None:
    """Trim in place."""
    python = environment / "bin" / "python3"
    subprocess.run(
        [python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools"], check=True, stderr=subprocess.DEVNULL
    )
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip"], check=True)
    [packages] = environment.glob("lib/python3*/site-packages")
    for folder in [path for path in packages.rglob("*") if path.is_dir() and path.name in FOLDERS]:
        shutil.rmtree(folder, ignore_errors=True)
    for file in packages.rglob("*"):
        if file.suffix in FILES and file.is_file():
            file.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
