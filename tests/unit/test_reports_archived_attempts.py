"""Archived attempts on their way: a download that is ended, and the temporary file."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reports.archived_attempts import ArchivedAttempts, _Download
from reports.response import AttemptRow
from reports.threads import Check, in_thread


def test_a_download_ends_when_nobody_waits_for_it_any_more() -> None:
    """And not when the server answers at last."""

    async def end() -> None:
        loop = asyncio.get_running_loop()
        is_waiting, is_ended = asyncio.Event(), asyncio.Event()
        answer: asyncio.Future[bytes] = loop.create_future()

        async def part(_start: int, _end: int) -> bytes:
            is_waiting.set()
            try:
                return await answer
            finally:
                is_ended.set()

        def read(check: Check) -> bytes | None:
            return _Download(part, 10, check, loop).read()

        reading = asyncio.ensure_future(in_thread(read))
        await is_waiting.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await is_ended.wait()

    asyncio.run(asyncio.wait_for(end(), 30))


def test_the_file_holds_what_was_added_last_and_is_gone_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "attempts"
    archived = ArchivedAttempts(file)
    first = AttemptRow("do_1", "a1", datetime(2024, 5, 14, 12, 0, 0, 1000, tzinfo=UTC), 1.5, '[{"id":"q1"}]')
    second, other = first._replace(last_attempted_on=None, questions=None), first._replace(attempt_id="a2")
    for user_id, attempt in (("u1", first), ("u1", other), ("u1", second), ("u2", first), ("u3", first)):
        archived.add(user_id, attempt)
    found = archived.of(["u1", "u2", "u4"])
    assert {user_id: set(attempts) for user_id, attempts in found.items()} == {"u1": {second, other}, "u2": {first}}
    archived.close()
    assert list(tmp_path.iterdir()) == []
