"""Linux and macOS: nothing that only one system has is imported, or asked for outside core/platforms.py."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_architecture import parsed

GUARD = Path("src/darkroom/core/platforms.py")
# modules that Windows or macOS lacks, or that only Windows has
MODULES = {
    "fcntl", "resource", "pty", "tty", "termios", "pwd", "grp", "syslog", "posix", "spwd", "nis", "ossaudiodev", "msvcrt", "winreg",
    "winsound", "nt", "_winapi", "pipes", "crypt",
}  # fmt: skip
# of `os`, `signal`, `socket`, `select`, `time`: what macOS lacks
LINUX_ALONE = {
    "sched_getaffinity", "sched_setaffinity", "posix_fallocate", "posix_fadvise", "waitid", "P_PIDFD", "pidfd_open",
    "pidfd_send_signal", "memfd_create", "eventfd", "timerfd_create", "splice", "copy_file_range", "getrandom", "setns", "unshare",
    "O_DIRECT", "O_TMPFILE", "O_PATH", "getxattr", "setxattr", "listxattr", "removexattr", "sigtimedwait", "sigwaitinfo", "SIGPWR",
    "SIGPOLL", "SIGSTKFLT", "epoll", "AF_NETLINK", "AF_PACKET", "CLOCK_BOOTTIME", "fdatasync", "getresuid", "prlimit",
}  # fmt: skip
# of `os` and `signal`: what Windows lacks as well, in the package alone; `pipelines` ends process groups
POSIX_ALONE = {"fork", "killpg", "getpgid", "setsid", "getuid", "geteuid", "getloadavg", "statvfs", "mkfifo", "uname", "SIGKILL"}

# imports all modules, so that libraries are loaded as this system has them, and then ours again, as a process of each other system
CODE = """
import importlib, importlib.abc, json, os, signal, sys
ours, systems = json.load(sys.stdin)
class Hidden(importlib.abc.MetaPathFinder):
    names = ()
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(name + " is missing on " + sys.platform, name=name)
for name in ours:
    importlib.import_module(name)
sys.meta_path.insert(0, Hidden())
for sys.platform, Hidden.names, attributes in systems:
    for name in [name for name in sys.modules if name in ours or name in Hidden.names]:
        del sys.modules[name]
    for name in attributes:
        for module in (os, signal):
            vars(module).pop(name, None)
    for name in ours:
        importlib.import_module(name)
"""
OF_WINDOWS = {"msvcrt", "winreg", "winsound", "nt", "_winapi"}


def sources() -> list[Path]:
    return [*(ROOT / "src" / "darkroom").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]


def relative(path: Path) -> Path:
    return path.relative_to(ROOT)


def names_of_modules() -> list[str]:
    """Return every module of the package and of the flows."""
    names = []
    for path in sources():
        folder = ROOT / "src" if (ROOT / "src") in path.parents else ROOT
        names.append(".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"))
    return sorted(name for name in names if not name.endswith("__main__"))


@pytest.mark.slow
def test_no_module_imports_what_one_system_lacks():
    """No module of the package or of the flows imports a module of one system, also not within a function."""
    for path in sources():
        for node in ast.walk(parsed(path)):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            guarded = {name.partition(".")[0] for name in named} & MODULES
            assert not guarded, f"{relative(path)}:{node.lineno} imports {guarded}: ask {GUARD} for what it does"


def test_one_module_asks_for_what_one_system_has():
    """What Linux alone has is used in core/platforms.py alone, after `hasattr`; what Windows lacks, too, but for the flows."""
    for path in sources():
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name) or node.value.id not in ("os", "signal"):
                continue
            if node.attr in LINUX_ALONE or (node.attr in POSIX_ALONE and "pipelines" not in path.parts):
                place = f"{relative(path)}:{node.lineno}: {node.value.id}.{node.attr}"
                assert relative(path) == GUARD, f"{place} is not everywhere: ask {GUARD}"
                assert f'hasattr(os, "{node.attr}")' in text, f"{place} without hasattr"


@pytest.mark.slow
def test_every_module_is_imported_on_another_system():
    """Each module of the package and of the flows is imported on macOS and on Windows: `sys.platform` is theirs, and what they lack
    is missing."""
    systems = [
        ("darwin", sorted(OF_WINDOWS | {"spwd", "ossaudiodev"}), sorted(LINUX_ALONE)),
        ("win32", sorted(MODULES - OF_WINDOWS), sorted(LINUX_ALONE | POSIX_ALONE)),
    ]
    request = json.dumps([names_of_modules(), systems])
    done = subprocess.run([sys.executable, "-c", CODE], input=request, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
