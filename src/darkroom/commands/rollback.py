"""Make the champion before the present one the champion again."""

from __future__ import annotations

import argparse

from darkroom.config import params
from darkroom.core.errors import WorkspaceError


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom rollback", description=__doc__)
    parser.add_argument("--why", default="", help="a sentence for the ledger")
    given = parser.parse_args(arguments)
    from darkroom.tracking import registry

    name = params.read().register_.name
    listed = registry.versions(name)
    reigns = registry.reigns(registry.ledger(name))
    if len(reigns) < 2:
        raise WorkspaceError(
            f"{name} has had {'one champion' if reigns else 'no champion'} so far",
            "`darkroom models` lists the versions, `darkroom promote VERSION` chooses one",
        )
    wanted = registry.pick(listed, reigns[-2], name)
    registry.check(name, wanted.version)
    registry.crown(name, wanted.version, given.why or f"back from version {reigns[-1]}", by=registry.ROLLBACK)
    print(f"version {wanted.version} of {name}, {wanted.model}, is the champion again, in place of version {reigns[-1]}")
    return 0
