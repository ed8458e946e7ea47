"""Shows the job requests: how many there are of each status, and the latest of them."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from reports.job_requests import FAILED, PROCESSING, SUBMITTED, SUCCESS
from reports.postgres import JobRequests, RequestStatus

_REFRESH_SECONDS = 2.0
_STATUSES = (SUBMITTED, PROCESSING, SUCCESS, FAILED)


async def show(job_requests: JobRequests, job_ids: Sequence[str], limit: int, is_watching: bool) -> None:
    """Prints the requests once, or again and again until the task is cancelled. Raises WorldFault and TaskFault."""
    console = Console()
    if not is_watching:
        console.print(await _read(job_requests, job_ids, limit))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(await _read(job_requests, job_ids, limit), refresh=True)
            await asyncio.sleep(_REFRESH_SECONDS)


async def _read(job_requests: JobRequests, job_ids: Sequence[str], limit: int) -> RenderableType:
    counts = await job_requests.counts(job_ids)
    requests = await job_requests.statuses(job_ids, limit)
    return render(counts, requests, datetime.now(UTC).replace(tzinfo=None))


def render(counts: dict[str, int], requests: Sequence[RequestStatus], now: datetime) -> RenderableType:
    """The requests as a table; ``now`` and their times are in UTC, without a zone."""
    totals = ", ".join(
        f"{counts.get(status, 0)} {status}" for status in (*_STATUSES, *sorted(counts.keys() - set(_STATUSES)))
    )
    table = Table(box=None, pad_edge=False)
    for title in ("request", "report", "status", "batches", "tries", "age", "lease", "message"):
        table.add_column(title, overflow="fold")
    for request in requests:
        cells = (
            f"{request.tag} {request.request_id}",
            request.job_id,
            request.status,
            str(request.batches),
            str(request.iteration),
            _duration((now - request.submitted_at).total_seconds()) if request.submitted_at else "",
            _lease(request),
            request.err_message or "",
        )
        # As text: ids and messages are no markup.
        table.add_row(*map(Text, cells))
    return Group(Text(totals), table)


def _lease(request: RequestStatus) -> str:
    """Of a request that is being processed, who has it and for how long."""
    if request.status != PROCESSING:
        return ""
    seconds = request.lease_expires_in_seconds
    if seconds is None:
        return "none"
    if seconds < 0:
        return f"expired {_duration(-seconds)} ago"
    return f"{request.lease_owner}, {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
