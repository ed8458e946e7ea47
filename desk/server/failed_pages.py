"""The page of the failed events, and their replay."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from common.domain.enrolments import EnrolmentKey
from desk.failed_events import Choice, failed_events, to_replay
from desk.sender import send
from desk.server import audit
from desk.server.desk import Desk


class FailedPages:
    """The handlers of the routes, as those of :class:`desk.server.pages.Pages`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        # A search reads all failed topics: several at once would take a core and some hundred megabytes each.
        self._search = asyncio.Lock()

    async def failed(self, request: Request) -> Response:
        """The failed events by topic and reason, and those of one reason."""
        desk = self._desk
        topic, *learner = (request.query_params.get(name, "").strip() for name in ("topic", "user", "course", "batch"))
        key = EnrolmentKey(*learner)
        if any(key) and not all(key):
            raise HTTPException(
                400, "The events of a learner need user, course and batch. The learner's page links there."
            )
        # As it came: an empty reason is one, too, and one may begin or end with a space.
        reason = request.query_params.get("reason")
        is_chosen = bool(topic or any(key) or reason is not None)
        choice = Choice(topic or None, reason, key if any(key) else None) if is_chosen else None
        async with self._search:
            found = await asyncio.to_thread(failed_events, desk.config.kafka, choice)
        audit.write(
            request,
            request.state.person,
            "failed",
            "shown",
            user=key.user_id,
            course=key.course_id,
            batch=key.batch_id,
            detail=reason or "",
        )
        return desk.page(
            request,
            "failed.html",
            found=found,
            is_chosen=is_chosen,
            topic=topic,
            reason=reason,
            key=key,
            sent=request.query_params.get("sent", ""),
        )

    async def replay(self, request: Request) -> Response:
        """Sends the chosen events to their input topics again."""
        desk, places = self._desk, request.state.form.get("place", [])
        if not places:
            raise HTTPException(400, "No event is chosen. Go back and choose some.")
        async with self._search:
            again = await asyncio.to_thread(to_replay, desk.config.kafka, places)
        audit.write(request, request.state.person, "replay", "sending", detail=" ".join(places))
        await asyncio.to_thread(send, desk.config.kafka, again)
        return RedirectResponse(f"/failed?sent={len(again)}", 303)
