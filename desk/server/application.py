"""The ASGI application of the desk: routes, what they share, and the answers to everything that goes wrong."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra import StatementError
from desk.config import DeskConfig, settings_of, wording_of
from desk.flink import FlinkClient
from desk.reader import DeskError, Reader
from desk.server import audit
from desk.server.access import Access, Role
from desk.server.desk import Desk
from desk.server.failed_pages import FailedPages
from desk.server.forms import one, read_form
from desk.server.headers import SecurityHeaders
from desk.server.live import LiveFigures
from desk.server.pages import Pages

_LOG = logging.getLogger(__name__)
STATIC = Path(__file__).with_name("static")


def create_application(config: DeskConfig) -> Starlette:
    """The application. It connects when the server that runs it starts it."""
    access = Access(config.server)
    desk = Desk(config, access, wording_of(config))
    pages, failed = Pages(desk), FailedPages(desk)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            reader = Reader(config)
            stack.push_async_callback(reader.close)
            await reader.open()
            settings = settings_of(config)
            live = LiveFigures(reader, settings)
            stack.push_async_callback(live.close)
            flink = None
            if config.flink_url is not None:
                flink = FlinkClient(config.flink_url)
                stack.push_async_callback(flink.close)
            desk.connect(reader, live, flink, settings)
            yield

    app = Starlette(
        routes=[
            Route("/", lambda _: RedirectResponse("/learner", 303)),
            Route("/login", pages.login, methods=["GET", "POST"]),
            Route("/logout", _for(desk, Role.VIEWER, pages.logout), methods=["POST"]),
            Route("/learner", _for(desk, Role.VIEWER, pages.learner)),
            Route("/learner/remedy", _for(desk, Role.REPAIRER, pages.remedy), methods=["POST"]),
            Route("/course", _for(desk, Role.VIEWER, pages.course)),
            Route("/course/figures", _for(desk, Role.VIEWER, pages.course_figures)),
            Route("/course/picture.svg", _for(desk, Role.VIEWER, pages.course_picture)),
            Route("/failed", _for(desk, Role.VIEWER, failed.failed)),
            Route("/failed/replay", _for(desk, Role.REPAIRER, failed.replay), methods=["POST"]),
            Route("/jobs", _for(desk, Role.VIEWER, pages.jobs)),
            Route("/v1/explain", _for(desk, Role.VIEWER, pages.explain_json)),
            Route("/health", lambda _: Response("ok")),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={
            HTTPException: pages.refused,
            DeskError: pages.no_answer,
            WorldFault: pages.no_answer,
            TaskFault: pages.no_answer,
            StatementError: pages.no_answer,
        },
        lifespan=lifespan,
    )
    # A redirect would go to whatever the Host header says.
    app.router.redirect_slashes = False
    return app


Handler = Callable[[Request], Awaitable[Response]]


def _for(desk: Desk, role: Role, handle: Handler) -> Handler:
    """Lets only people with a role through, and of forms only our own. Others are sent to the login, or refused."""

    async def guarded(request: Request) -> Response:
        person = desk.access.person(request)
        request.state.person = person
        if person.role < role:
            audit.write(request, person, request.url.path.strip("/"), "refused")
            if person.role is Role.NOBODY and request.method == "GET" and "authorization" not in request.headers:
                return _to_login(request)
            raise HTTPException(401 if person.role is Role.NOBODY else 403, "You may not do this.")
        if request.method == "POST":
            request.state.form = await read_form(request)
            if not desk.access.is_own_form(request, person, one(request.state.form, "csrf")):
                audit.write(request, person, request.url.path.strip("/"), "foreign form")
                raise HTTPException(403, "This form has expired. Go back, load the page again, and repeat it.")
        return await handle(request)

    return guarded


def _to_login(request: Request) -> Response:
    if request.url.path.startswith("/v1/"):
        return JSONResponse({"error": "a token is needed: Authorization: Bearer …"}, 401)
    return RedirectResponse("/login", 303)
