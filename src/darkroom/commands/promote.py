"""Make a version of the registered model the champion, whatever the checks said of it."""

from __future__ import annotations

import argparse

from darkroom.config import params


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom promote", description=__doc__)
    parser.add_argument("version", nargs="?", help="its number; default: the challenger")
    parser.add_argument("--why", default="", help="a sentence for the ledger")
    given = parser.parse_args(arguments)
    from darkroom.tracking import registry

    name = params.read().register_.name
    listed = registry.versions(name)
    wanted = registry.pick(listed, given.version or registry.CHALLENGER, name)
    before = next((item for item in listed if registry.CHAMPION in item.aliases), None)
    if before and before.version == wanted.version:
        print(f"version {wanted.version} of {name}, {wanted.model}, is the champion already")
        return 0
    registry.check(name, wanted.version)
    registry.crown(name, wanted.version, given.why or f"by hand; its checks: {wanted.verdict or 'none'}", by="promote")
    print(
        f"version {wanted.version} of {name}, {wanted.model}, is the champion"
        + (f", in place of version {before.version}, {before.model}" if before else ", the first one")
        + (f"; its checks: {wanted.verdict}" if wanted.verdict != "passed" else "")
    )
    return 0
