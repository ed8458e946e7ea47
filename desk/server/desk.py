"""What all pages share: configuration, access, the servers, and the templates."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from desk.config import DeskConfig
from desk.explanation.settings import JobSettings
from desk.explanation.wording import Wording
from desk.flink import FlinkClient
from desk.reader import Reader
from desk.server.access import Access, Person, Role
from desk.server.live import LiveFigures


class Desk:
    """The desk behind the pages."""

    reader: Reader
    live: LiveFigures
    flink: FlinkClient | None
    settings: JobSettings

    def __init__(self, config: DeskConfig, access: Access, wording: Wording) -> None:
        """Connects to nothing."""
        self.config = config
        self.access = access
        self.wording = wording
        self._templates = Environment(
            loader=PackageLoader("desk.server"),
            autoescape=select_autoescape(),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(time=wording.time, duration=duration, number="{:,}".format)

    def connect(self, reader: Reader, live: LiveFigures, flink: FlinkClient | None, settings: JobSettings) -> None:
        """Takes over the open servers."""
        self.reader, self.live, self.flink, self.settings = reader, live, flink, settings

    def render(self, template: str, **values: Any) -> str:
        """A template as text, every value escaped."""
        return self._templates.get_template(template).render(**values)

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page with the navigation for the person who asked."""
        person: Person | None = getattr(request.state, "person", None)
        can_look = person is not None and person.role >= Role.VIEWER
        return HTMLResponse(
            self.render(
                template,
                path=request.url.path,
                person=person,
                can_look=can_look,
                can_repair=person is not None and person.role >= Role.REPAIRER,
                zone_name=self.wording.zone_name,
                csrf=self.access.form_token(person) if person is not None else "",
                **values,
            ),
            status,
        )


def duration(ms: float) -> str:
    """A length of time: ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    seconds = ms / 1000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def safe_chart(svg: str) -> Markup:
    """A chart, whose texts are escaped already."""
    return Markup(svg)
