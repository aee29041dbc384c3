"""A limit that projects share: as many of their stages run at a time as a global concurrency limit of Prefect's has slots.

DARKROOM_CONCURRENCY_LIMIT names the limit, `gpu-0` for instance, in the environment of each clone that uses this GPU. The slot
is leased: of a flow that is killed it is free again when its lease has expired.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
from prefect import get_client, runtime
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from darkroom.core.errors import WorkspaceError
from pipelines.process_groups import STOPPED, StoppedError

VARIABLE = "DARKROOM_CONCURRENCY_LIMIT"
LEASE = 120.0  # seconds; it is renewed while the stage runs
POLL = 2.0  # seconds between two tries to get a slot
TAKEN = 423  # the HTTP status where no slot is free


def check() -> None:
    """Raise WorkspaceError where the server of this flow does not have the limit that is named."""
    name = os.environ.get(VARIABLE)
    if not name:
        return
    try:
        with get_client(sync_client=True) as client:
            client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound as error:
        raise WorkspaceError(
            f"{VARIABLE} names {name}, and the Prefect server of this flow has no such concurrency limit",
            f"`prefect global-concurrency-limit create {name} --limit 1`, on the server of all who share it (PREFECT_API_URL)",
        ) from error


@contextmanager
def slot(stopped: threading.Event, log: Callable[[str], object]) -> Iterator[None]:
    """Hold a slot of the limit that is named, if one is, for the block; wait for it until one is free.

    Raises StoppedError where the flow is cancelled meanwhile, WorkspaceError where the server gives none for another reason.
    """
    name = os.environ.get(VARIABLE)
    with ExitStack() as stack:
        is_told = False
        while name:
            try:
                stack.enter_context(_acquired(name))
                break
            except ConcurrencySlotAcquisitionError as error:
                cause = error.__cause__
                if not (isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == TAKEN):
                    remedy = f"`prefect global-concurrency-limit inspect {name}` shows it"
                    raise WorkspaceError(f"no slot of the concurrency limit {name}: {error}", remedy, True) from error
            if not is_told:
                log(f"waits: all slots of the concurrency limit {name} are taken")
                is_told = True
            if stopped.wait(POLL):
                raise StoppedError(STOPPED)
        yield


@contextmanager
def _acquired(name: str) -> Iterator[None]:
    """Hold a slot, or raise ConcurrencySlotAcquisitionError at once. A training goes on where the lease cannot be renewed."""
    task_run = runtime.task_run.id
    holder = ConcurrencyLeaseHolder(type="task_run", id=task_run) if task_run else None  # type: ignore[arg-type]
    with concurrency(name, max_retries=0, lease_duration=LEASE, strict=True, holder=holder, raise_on_lease_renewal_failure=False):
        yield
