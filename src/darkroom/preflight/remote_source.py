"""A source at an address on the network, before it is copied: what params.yaml says of it, and whether it has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darkroom.config.params import Params
from darkroom.core import user_paths
from darkroom.core.errors import DarkroomError, ParamsError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.data import remote_files

COPY = Path("data/raw/url")  # by the stage `fetch`


def locate(address: str) -> dict[str, Any]:
    """Return the values of params for a source at an address, as it is now; errors as of `remote_files.list_files`."""
    if user_paths.has_secret(address):
        raise ParamsError(
            f"{remote_files.shown(address)} has a password, a key or a signature, which params.yaml and git would keep",
            "write the address alone, and give credentials in the environment (AWS_ACCESS_KEY_ID, …) or in fsspec's configuration",
        )
    listing = remote_files.list_files(address)
    return {
        "fetch.datasets": ["url"], "fetch.url": address, "fetch.version": listing.version,
        "ingest.source": listing.place(COPY).as_posix(),
    }  # fmt: skip


def latest_version(settings: Params) -> str:
    """Return the version of what is now at the address of the source; errors as of `remote_files.list_files`."""
    if "url" not in settings.fetch.datasets:
        raise ParamsError("the images of this project are no copy of what is at an address", "name one: `--data ADDRESS`")
    return remote_files.list_files(settings.fetch.url).version


def is_copy(settings: Params) -> bool:
    """Tell whether the source is a copy of what is at an address."""
    source = Path(settings.ingest.source)
    return "url" in settings.fetch.datasets and (source == COPY or COPY in source.parents)


def note(settings: Params) -> str:
    """Return a sentence about the address that the source is copied from, and whether it has changed since."""
    address = remote_files.shown(settings.fetch.url)
    try:
        listing = remote_files.list_files(settings.fetch.url)
    except DarkroomError as error:
        return f"copied from {address}, which cannot be asked now ({error.problem.partition(': ')[2] or error.problem})"
    if settings.fetch.version and listing.version != settings.fetch.version:
        return f"warning: {address} has changed since it was copied; `darkroom recipe --latest` takes what is there now"
    return f"copied from {address}"
