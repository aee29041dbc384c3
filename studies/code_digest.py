"""Print the SHA-256 of source code: `python code_digest.py PATH...`, files or folders.

DVC hashes a folder outside its repository whole, so also the bytecode that Python leaves there. A stage depends on the output of
this script instead.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

SUFFIXES = (".py", ".j2", ".csv")


def main(paths: list[str]) -> None:
    sha = hashlib.sha256()
    for path in map(Path, paths):
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        if not files:
            raise SystemExit(f"there is no code at {path}")
        for file in files:
            sha.update(f"{file.as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    print(sha.hexdigest())


if __name__ == "__main__":
    main(sys.argv[1:])
