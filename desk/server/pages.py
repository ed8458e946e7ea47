"""The pages, and the explanation as JSON."""

import asyncio
import time
from pathlib import Path
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused
from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra import StatementError
from desk import remedies
from desk.doctor.findings import FindingsError
from desk.explanation import explain
from desk.explanation.steps import Explanation
from desk.figures import BINS, NEARLY_PERCENT
from desk.reader import DeskError
from desk.records import LearnerRecord, Unknown
from desk.remedies import Remedy
from desk.sender import send
from desk.server import audit, charts
from desk.server.access import Person, Role
from desk.server.desk import Desk, safe_chart
from desk.server.forms import one, read_form
from desk.server.last_check import LastCheckFile
from desk.server.live import Snapshot

_FIRST_SCAN_SECONDS = 3.0
"""How long a page waits for the first figures of a batch; then it says that they are on their way."""

_PICTURE_SECONDS = 50.0

_COOKIE_SENT = "cookie"
"""The parameter of the login that marks a browser which has just been given its cookie."""

_REMEDY_NAMES = {
    Remedy.RECOMPUTE: "Recompute the best scores",
    Remedy.SYNC: "Sync the progress",
    Remedy.CERTIFICATE: "Request the certificate again",
}

_JOB_WORDS = {
    "assessment-aggregator": "Scores of quizzes",
    "activity-aggregate-updater": "Progress in courses",
    "collection-cert-pre-processor": "Certificates",
}


class Pages:
    """The handlers of the routes. Each takes a request whose person is known and may do this."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._course_audit = audit.CourseAudit(desk.config.server.session_seconds)
        file = desk.config.server.findings_file
        self._last_check = None if file is None else LastCheckFile(Path(file))

    async def login(self, request: Request) -> Response:
        """The form for the token, and what it sends."""
        desk = self._desk
        person = desk.access.person(request)
        request.state.person = person
        if request.method == "POST":
            form = await read_form(request)
            if not desk.access.is_own_form(request, person, one(form, "csrf")):
                raise HTTPException(403, "This form has expired. Load the page again, and repeat it.")
            role = desk.access.role_of(one(form, "token"))
            audit.write(request, person, "login", "accepted" if role else "refused", detail=role.name.lower())
            if role:
                response: Response = RedirectResponse("/learner", 303)
                desk.access.begin_session(response, role)
                return response
            return desk.page(
                request, "login.html", 401, error="This token is not valid. Check that you copied all of it."
            )
        if person.session_id is not None:
            return desk.page(request, "login.html", error="")
        if _COOKIE_SENT in request.query_params:
            raise HTTPException(
                400,
                "The browser has not kept the desk's cookie. Allow cookies for this page. If the address begins with "
                "http://, tell an operator: the desk needs HTTPS, or server.secure_cookies: false.",
            )
        # The form needs a session to be bound to: the browser gets one without a role.
        response = RedirectResponse(f"/login?{_COOKIE_SENT}=1", 303)
        desk.access.begin_session(response, Role.NOBODY)
        return response

    async def logout(self, _: Request) -> Response:
        """Ends the session."""
        response = RedirectResponse("/login", 303)
        self._desk.access.end_session(response)
        return response

    async def learner(self, request: Request) -> Response:
        """The search, and the steps of a learner."""
        asked = {name: request.query_params.get(name, "").strip() for name in ("user", "course", "batch", "sent")}
        if not asked["user"] or not asked["course"]:
            return self._desk.page(request, "learner.html", asked=asked, steps=(), error="")
        try:
            record, explanation = await self._explain(request)
        except (DeskError, WorldFault, TaskFault, StatementError) as fault:
            status = 404 if isinstance(fault, DeskError) else 503
            return self._desk.page(request, "learner.html", status, asked=asked, steps=(), error=str(fault))
        asked["batch"] = record.key.batch_id
        return self._desk.page(
            request,
            "learner.html",
            asked=asked,
            steps=explanation.steps,
            error="",
            remedy_names=_REMEDY_NAMES,
            course_name=_text_or_none(record.course.name),
            batch_name=record.batch.name,
        )

    async def explain_json(self, request: Request) -> Response:
        """The steps as JSON: ``GET /v1/explain?user=…&course=…&batch=…``."""
        if not request.query_params.get("user") or not request.query_params.get("course"):
            return JSONResponse({"error": "user and course are needed"}, 400)
        try:
            _, explanation = await self._explain(request)
        except DeskError as error:
            return JSONResponse({"error": str(error)}, 404)
        steps = [step.as_json() for step in explanation.steps]
        return JSONResponse({"steps": steps, "timeZone": self._desk.wording.zone_name})

    async def _explain(self, request: Request) -> tuple[LearnerRecord, Explanation]:
        desk, query = self._desk, request.query_params
        person: Person = request.state.person
        user, course, batch = (query.get(name, "").strip() for name in ("user", "course", "batch"))
        try:
            key = await desk.reader.enrolment_key(user, course, batch or None)
            record = await desk.reader.learner(key)
            explanation = explain(record, desk.settings, desk.wording)
        except (DeskError, WorldFault, TaskFault, StatementError) as fault:
            audit.write(
                request, person, "explain", "no answer", user=user, course=course, batch=batch, detail=str(fault)
            )
            raise
        audit.write(
            request,
            person,
            "explain",
            explanation.verdict.verdict.value,
            user=key.user_id,
            course=key.course_id,
            batch=key.batch_id,
        )
        return record, explanation

    async def remedy(self, request: Request) -> Response:
        """Sends one event for a learner, if the explanation offers it still."""
        desk, form, person = self._desk, request.state.form, request.state.person
        key = EnrolmentKey(one(form, "user"), one(form, "course"), one(form, "batch"))
        asked = one(form, "remedy")
        record = await desk.reader.learner(key)
        steps = explain(record, desk.settings, desk.wording).steps
        offered = {step.next.remedy: step.next for step in steps if step.next is not None}
        remedy = next((one_of for one_of in offered if one_of is not None and one_of.value == asked), None)
        if remedy is None:
            raise HTTPException(409, "The learner does not need this any more. Look at the page again.")
        content_id = offered[remedy].content_id
        message = remedies.event(remedy, key, content_id, time.time_ns() // 1_000_000, desk.config.kafka)
        # Before it is sent: a repair that nobody can see must not happen.
        audit.write(
            request, person, remedy.value, "sending", user=key.user_id, course=key.course_id, batch=key.batch_id
        )
        await asyncio.to_thread(send, desk.config.kafka, [message])
        query = urlencode({"user": key.user_id, "course": key.course_id, "batch": key.batch_id, "sent": remedy.value})
        return RedirectResponse(f"/learner?{query}", 303)

    async def course(self, request: Request) -> Response:
        """The figures of a batch, or the batches of a course."""
        desk = self._desk
        course_id, batch_id = (request.query_params.get(name, "").strip() for name in ("course", "batch"))
        batches: list[tuple[str, str | None]] = []
        figures: Markup | None = None
        if course_id:
            batches = sorted(await desk.reader.store.batches_of_course(course_id))
            if not batch_id and len(batches) == 1:
                batch_id = batches[0][0]
            if batch_id and batch_id not in dict(batches):
                raise _no_batch(course_id, batch_id)
        if course_id and batch_id:
            self._course_audit.shown(request, request.state.person, course_id, batch_id)
            figures = await self._figures(course_id, batch_id)
        return desk.page(
            request,
            "course.html",
            course_id=course_id,
            batch_id=batch_id,
            batches=batches,
            batch_name=dict(batches).get(batch_id),
            course_name=_text_or_none(await desk.reader.sources.course_name(course_id)) if batches else None,
            figures=figures,
            refresh_seconds=desk.config.server.refresh_seconds,
        )

    async def course_figures(self, request: Request) -> Response:
        """The figures alone, for the page that updates itself."""
        course_id, batch_id = await self._known_batch(request)
        self._course_audit.updated(request, request.state.person, course_id, batch_id)
        return HTMLResponse(await self._figures(course_id, batch_id))

    async def _known_batch(self, request: Request) -> tuple[str, str]:
        """The ids of course and batch. Raises DeskError for made-up ones, each of which would cost a scan."""
        course_id, batch_id = (request.query_params.get(name, "").strip() for name in ("course", "batch"))
        if not course_id or batch_id not in dict(await self._desk.reader.store.batches_of_course(course_id)):
            raise _no_batch(course_id, batch_id)
        return course_id, batch_id

    async def _figures(self, course_id: str, batch_id: str) -> Markup:
        desk = self._desk
        try:
            snapshot = await desk.live.snapshot(course_id, batch_id, wait_seconds=_FIRST_SCAN_SECONDS)
        except (WorldFault, TaskFault, StatementError) as fault:
            return Markup(desk.render("figures.html", snapshot=None, error=str(fault)))
        if snapshot is None:
            return Markup(desk.render("figures.html", snapshot=None, error=""))
        return Markup(
            desk.render(
                "figures.html",
                snapshot=snapshot,
                error="",
                funnel=safe_chart(charts.funnel(snapshot.figures)),
                best_scores=safe_chart(charts.best_scores(snapshot.figures)),
                units=safe_chart(charts.unit_progress(snapshot.figures, unit_names(snapshot))),
                bins=[(charts.bin_name(number), snapshot.figures.bins[number]) for number in range(BINS)],
                nearly_percent=NEARLY_PERCENT,
            )
        )

    async def course_picture(self, request: Request) -> Response:
        """The charts of a batch as a file to keep."""
        desk = self._desk
        course_id, batch_id = await self._known_batch(request)
        audit.write(request, request.state.person, "picture", "shown", course=course_id, batch=batch_id)
        snapshot = await desk.live.snapshot(course_id, batch_id, wait_seconds=_PICTURE_SECONDS)
        if snapshot is None:
            raise DeskError("The figures are still being read. Ask again in a while.")
        figures = snapshot.figures
        drawn = [
            ("From the enrolment to the certificate", charts.funnel(figures)),
            ("Best scores", charts.best_scores(figures)),
        ]
        if figures.units:
            drawn.append(("Completed contents by unit", charts.unit_progress(figures, unit_names(snapshot))))
        heading = f"{figures.batch.name or batch_id}, {desk.wording.time(snapshot.read_at_ms)} {desk.wording.zone_name}"
        return Response(
            charts.picture(heading, drawn),
            media_type="image/svg+xml",
            # To be kept, not to be opened here: a file that stands alone has its styles inside.
            headers={"Content-Disposition": 'attachment; filename="course.svg"'},
        )

    async def jobs(self, request: Request) -> Response:
        """The jobs, whether they run, and what the last check of the stored rows has found."""
        desk, states, error = self._desk, [], ""
        try:
            if desk.flink is None:
                error = "flink_url is not set in the configuration of the desk."
            else:
                states = await desk.flink.jobs()
        except WorldFault as fault:
            error = str(fault)
        last, check_error = None, ""
        try:
            last = None if self._last_check is None else await self._last_check.read()
        except FindingsError as fault:
            check_error = str(fault)
        return desk.page(
            request,
            "jobs.html",
            states=states,
            error=error,
            job_words=_JOB_WORDS,
            last=last,
            check_error=check_error,
        )

    async def refused(self, request: Request, error: Exception) -> Response:
        """The page for what may not be done, or does not exist."""
        assert isinstance(error, HTTPException)
        heading = {404: "This page does not exist", 405: "This page takes no such request"}.get(error.status_code)
        text = error.detail if heading is None else "Perhaps the address was mistyped."
        return self._error(request, error.status_code, heading or "This cannot be done", text)

    async def no_answer(self, request: Request, error: Exception) -> Response:
        """The page for a question without an answer, and for servers that do not answer."""
        if isinstance(error, DeskError):
            return self._error(request, 404, "Nothing was found", str(error))
        return self._error(request, 503, "A server does not answer", f"Load the page again in some minutes. {error}")

    def _error(self, request: Request, status: int, heading: str, text: str) -> Response:
        if request.url.path.startswith("/v1/"):
            return JSONResponse({"error": text}, status)
        if not hasattr(request.state, "person"):
            request.state.person = self._desk.access.person(request)  # of a page that does not exist
        return self._desk.page(request, "error.html", status, heading=heading, text=text)


def _no_batch(course_id: str, batch_id: str) -> DeskError:
    return DeskError(f"There is no batch {batch_id} of {course_id}. Check both ids.")


def _text_or_none(name: str | Refused | Unknown) -> str | None:
    return name if isinstance(name, str) else None


def unit_names(snapshot: Snapshot) -> list[tuple[str, str]]:
    """The units of a course with their names, or with their ids where they have none."""
    return [(unit_id, snapshot.names.get(unit_id, unit_id)) for unit_id in snapshot.figures.units]
