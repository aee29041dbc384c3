"""A disk that loses at a power failure what was not brought to it: python benchmarks/volatile_disk.py FOLDER MOUNT AFTER SEED

FOLDER's content is mounted at MOUNT (FUSE: `pip install mfusepy`, libfuse, root). Names are journalled in their order, as by ext4
and XFS: `fsync` of a file or folder brings all earlier changes of names to the disk, but the content of that file alone.
`umount` is the power failure, and AFTER gets what is then on the disk: a random part of the later changes of names, from the
first on. A file that was never synced is empty, cut off, full of zeros, or whole; one that was changed since has its old pages, its
new ones, or some of each.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mfusepy

PAGE = 4096
Tree = dict[str, "Node"]


@dataclass
class Node:
    """A file, whose content is in the store by its number, a folder, or a symbolic link."""

    kind: int  # S_IFREG, S_IFDIR or S_IFLNK
    number: int
    mode: int = 0o755
    target: str = ""
    modified: int = field(default_factory=time.time_ns)


def rename(tree: Tree, old: str, new: str) -> None:
    moved = {path: node for path, node in tree.items() if path == old or path.startswith(f"{old}/")}
    for path in moved:
        del tree[path]
    tree.update({new + path[len(old) :]: node for path, node in moved.items()})


class VolatileDisk(mfusepy.Operations):
    """The tree as programs see it, the tree on the disk, and the changes of names between them."""

    use_ns = True

    def __init__(self, folder: Path, after: Path, seed: int) -> None:
        self.after, self.draw = after, random.Random(seed)
        self.store = Path(tempfile.mkdtemp(dir=after.parent))
        (self.store / "now").mkdir()
        (self.store / "disk").mkdir()
        self.tree: Tree = {"": Node(stat.S_IFDIR, 0)}
        self.count = 0
        numbers: dict[int, Node] = {}
        for path in sorted(folder.rglob("*")):
            state = path.lstat()
            if state.st_ino in numbers:  # a hard link
                node = numbers[state.st_ino]
            else:
                target = os.readlink(path) if path.is_symlink() else ""
                node = self._node(stat.S_IFMT(state.st_mode), state.st_mode & 0o7777, target, state.st_mtime_ns)
                if node.kind == stat.S_IFREG:
                    numbers[state.st_ino] = node
                    shutil.copyfile(path, self._now(node))
                    shutil.copyfile(path, self.store / "disk" / str(node.number))
            self.tree[f"/{path.relative_to(folder)}"] = node
        self.links = Counter(node.number for node in self.tree.values())
        self.disk = dict(self.tree)
        self.journal: list[tuple[Any, ...]] = []

    def _node(self, kind: int, mode: int, target: str = "", modified: int | None = None) -> Node:
        self.count += 1
        return Node(kind, self.count, mode, target, time.time_ns() if modified is None else modified)

    def _now(self, node: Node) -> Path:
        return self.store / "now" / str(node.number)

    def _find(self, path: str) -> Node:
        try:
            return self.tree[path.rstrip("/")]
        except KeyError:
            raise mfusepy.FuseOSError(errno.ENOENT) from None

    def _change(self, *operation: Any) -> None:
        self._apply(self.tree, operation)
        self.journal.append(operation)
        self.links = Counter(node.number for node in self.tree.values())
        for path in operation[1:3]:
            parent = self.tree.get(path.rpartition("/")[0]) if isinstance(path, str) else None
            if parent:
                parent.modified = time.time_ns()

    @staticmethod
    def _apply(tree: Tree, operation: tuple[Any, ...]) -> None:
        match operation:
            case "add", str(path), Node() as node:
                tree[path] = node
            case "remove", str(path):
                tree.pop(path, None)
            case "rename", str(old), str(new):
                rename(tree, old, new)

    # names

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        node = self._find(path)
        size = self._now(node).stat().st_size if node.kind == stat.S_IFREG else len(node.target)
        attributes = dict.fromkeys(("st_atime", "st_mtime", "st_ctime"), node.modified)
        return {
            "st_mode": node.kind | node.mode,
            "st_nlink": self.links[node.number],
            "st_size": size,
            "st_ino": node.number,
            "st_blocks": -(-size // 512),
        } | attributes

    def readdir(self, path: str, fh: int) -> list[str]:
        folder = path.rstrip("/") + "/"
        return [
            ".",
            "..",
            *(name[len(folder) :] for name in self.tree if name.startswith(folder) and "/" not in name[len(folder) :]),
        ]

    def mkdir(self, path: str, mode: int) -> None:
        self._change("add", path, self._node(stat.S_IFDIR, mode & 0o7777))

    def symlink(self, target: str, source: str) -> None:
        self._change("add", target, self._node(stat.S_IFLNK, 0o777, source))

    def readlink(self, path: str) -> str:
        return self._find(path).target

    def link(self, target: str, source: str) -> None:
        self._change("add", target, self._find(source))

    def unlink(self, path: str) -> None:
        self._find(path)
        self._change("remove", path)

    def rmdir(self, path: str) -> None:
        if len(self.readdir(path, 0)) > 2:
            raise mfusepy.FuseOSError(errno.ENOTEMPTY)
        self._change("remove", path)

    def rename(self, old: str, new: str) -> None:
        self._find(old)
        self._change("rename", old, new)

    def chmod(self, path: str, mode: int) -> None:
        self._find(path).mode = mode & 0o7777

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._find(path)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        self._find(path).modified = times[1] if times else time.time_ns()

    def statfs(self, path: str) -> dict[str, int]:
        state = os.statvfs(self.store)
        return {
            key: getattr(state, key)
            for key in ("f_bavail", "f_bfree", "f_blocks", "f_bsize", "f_files", "f_ffree", "f_frsize", "f_namemax")
        }

    # contents: a file handle is a descriptor of the file in the store

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        node = self._node(stat.S_IFREG, mode & 0o7777)
        self._change("add", path, node)
        return os.open(self._now(node), os.O_RDWR | os.O_CREAT)

    def open(self, path: str, flags: int) -> int:
        return os.open(self._now(self._find(path)), os.O_RDWR | (flags & os.O_TRUNC))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if path in self.tree:
            self.tree[path].modified = time.time_ns()
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._now(self._find(path)) if fh is None else fh, length)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        number = Path(os.readlink(f"/proc/self/fd/{fh}")).name  # the path may be another file's by now
        shutil.copyfile(self.store / "now" / number, self.store / "disk" / number)
        self.fsyncdir(path, datasync, fh)

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        for operation in self.journal:
            self._apply(self.disk, operation)
        self.journal.clear()

    # the power failure

    def _content(self, node: Node) -> tuple[str, bytes]:
        """Return what is on the disk of a file."""
        now = self._now(node).read_bytes()
        synced = self.store / "disk" / str(node.number)
        old = synced.read_bytes() if synced.exists() else None
        if old == now:
            return "synced", now
        if old is None:
            choices = {"empty": b"", "cut off": now[: len(now) // 2 // PAGE * PAGE], "zeros": bytes(len(now)), "whole": now}
        else:
            pages = range(0, max(len(old), len(now)), PAGE)
            mixed = b"".join(self.draw.choice((old, now))[start : start + PAGE] for start in pages)
            choices = {"old": old, "new": now, "mixed": mixed}
        return self.draw.choice(list(choices.items()))

    def destroy(self, path: str) -> None:
        """Write what is on the disk into AFTER."""
        for operation in self.journal[: self.draw.randint(0, len(self.journal))]:
            self._apply(self.disk, operation)
        self.after.mkdir()
        written: dict[int, Path] = {}
        kinds: Counter[str] = Counter()
        for name, node in sorted(self.disk.items()):
            target = self.after / name[1:]
            if not name or not target.parent.is_dir():
                continue
            if node.kind == stat.S_IFDIR:
                target.mkdir()
                target.chmod(node.mode | 0o700)
            elif node.kind == stat.S_IFLNK:
                target.symlink_to(node.target)
            elif node.number in written:
                os.link(written[node.number], target)
            else:
                kind, content = self._content(node)
                kinds[kind] += 1
                if kind != "synced":
                    print(f"{kind}: {name}", file=sys.stderr)
                target.write_bytes(content)
                target.chmod(node.mode)
                os.utime(target, ns=(node.modified, node.modified))
                written[node.number] = target
        print(f"{len(self.journal)} changes of names were not synced; files: {dict(kinds)}", file=sys.stderr, flush=True)
        shutil.rmtree(self.store)


if __name__ == "__main__":
    source, mount, after, seed = sys.argv[1:]
    disk = VolatileDisk(Path(source), Path(after), int(seed))
    mfusepy.FUSE(disk, mount, foreground=True, nothreads=True, attr_timeout=0, entry_timeout=0, default_permissions=True)
