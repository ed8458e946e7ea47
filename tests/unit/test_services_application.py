"""The application over servers that fail: which fault becomes which answer. And what the store asks for."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any, cast

import httpx
import pytest

from common.config.loader import load
from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra import Cassandra
from local.tokens import ISSUER, TokenIssuer
from services import application
from services.application import Application
from services.config import ServerConfig, ServicesConfig
from services.content_state import ContentStateQuery
from services.group_activity import AggregatesRow
from services.servers import Servers
from services.store import MAX_IN, Store
from services.tokens import Tokens
from tests.support.required_keys import REQUIRED

STATE = {"request": {"userId": "u", "courseId": "c", "batchId": "b"}}
GROUP = {"request": {"groupId": "g", "activityId": "c", "activityType": "Course"}}
ASSESSMENT = {
    "contentId": "do_1",
    "attemptId": "a",
    "events": [{"ets": 5, "edata": {"score": 1, "item": {"id": "q", "maxscore": 1}}}],
}
SUBMIT = {"request": {"assessments": [ASSESSMENT]}}
READ = {"request": {"collectionId": "c", "contextId": "b"}}


class World:
    """All servers at once. The methods named in ``faults`` raise; the others answer with as little as they may."""

    def __init__(self) -> None:
        self.faults: dict[str, Exception] = {}
        self.calls: list[str] = []

    def _answer(self, name: str, answer: Any = None) -> Any:
        self.calls.append(name)
        if name in self.faults:
            raise self.faults[name]
        return answer

    async def content_states(self, _: Any) -> Any:
        return self._answer("content_states", ([], [], {}))

    async def aggregates(self, *_: Any) -> Any:
        return self._answer("aggregates", {})

    async def group(self, *_: Any) -> Any:
        return self._answer("group", [AggregatesRow("u", None, None, {})])

    async def members(self, *_: Any) -> Any:
        return self._answer("members", [{"userId": "u"}])

    async def save_drafts(self, attempts: Sequence[Any], _: int) -> Any:
        return self._answer("save_drafts", [True] * len(attempts))

    async def sets(self, keys: Any) -> Any:
        return self._answer("sets", dict.fromkeys(keys, frozenset()))

    async def structs(self, keys: Any, _: Any) -> Any:
        return self._answer("structs", dict.fromkeys(keys))

    async def put(self, *_: Any) -> None:
        self._answer("put")

    async def publish(self, records: Any) -> None:
        self._answer("publish" if records else "publish nothing")

    async def ping(self) -> None:
        self._answer("ping")

    async def open(self) -> None:
        self._answer("open")


class Client:
    """Calls an application without a socket."""

    def __init__(self, app: Application, headers: dict[str, str], server: ServerConfig) -> None:
        self._runner = asyncio.Runner()
        lifespan_app = app._lifespan_app
        self._lifespan = lifespan_app.router.lifespan_context(lifespan_app)
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), headers=headers)
        self._server = server
        self.admission = app._admission

    def __enter__(self) -> "Client":
        self._runner.run(self._lifespan.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.run(self._lifespan.__aexit__(None, None, None))
        self._runner.close()

    def get(self, path: str) -> httpx.Response:
        return self._runner.run(self._client.get(f"http://services:{self._server.internal_port}{path}"))

    def post(self, path: str, json: Any, **headers: str) -> httpx.Response:
        port = self._server.internal_port if path.startswith("/private") else self._server.port
        return self._runner.run(self._client.post(f"http://services:{port}{path}", json=json, headers=headers))


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> TokenIssuer:
    return TokenIssuer(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def client(world: World, issuer: TokenIssuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    @asynccontextmanager
    async def open_servers(*_: Any) -> AsyncIterator[Servers]:
        server = cast(Any, world)
        yield Servers(server, server, server, server, server)

    monkeypatch.setattr(application, "open_servers", open_servers)
    environ = {
        "AGGREGATES__GROUP_ACTIVITY_AGG_CACHE_ENABLE": "true",
        "AGGREGATES__SERVER__PRIVATE_ROUTES": "true",
        "AGGREGATES__SERVER__ACCESS_LOG": "true",
    }
    config = load(ServicesConfig, environ=REQUIRED[ServicesConfig] | environ)
    app = Application(config, Tokens(issuer.public_keys_folder, ISSUER))
    with Client(app, {"x-authenticated-user-token": issuer.token("u")}, config.server) as client:
        yield client


FAULTS = [WorldFault("down"), TaskFault("refused"), TimeoutError(), RuntimeError("a rule"), OSError("broken")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize(
    ("path", "body", "calls"),
    [
        ("/v1/content/state/read", STATE, ["content_states"]),
        ("/private/v1/content/state/read", STATE, ["content_states"]),
        ("/v1/group/activity/agg", GROUP, ["members"]),
        ("/v1/assess/submit", SUBMIT, ["sets", "publish"]),
        ("/v1/assess/save", SUBMIT, ["sets", "save_drafts"]),
        ("/v1/assess/read", READ, ["aggregates"]),
    ],
)
def test_a_server_that_fails_is_a_server_error(
    client: Client, world: World, path: str, body: Any, calls: list[str], fault: Exception
) -> None:
    assert client.post(path, json=body).status_code == 200
    for call in calls:
        world.faults = {call: fault}
        response = client.post(path, json=body)

        answer = response.json()
        assert (response.status_code, answer["responseCode"], answer["result"]) == (500, "SERVER_ERROR", {})
        is_viewer = "assess" in path
        assert answer["params"]["err"] == ("SERVER_ERROR" if is_viewer else "INTERNAL_ERROR")
        assert answer["params"]["status"] == ("failed" if is_viewer else "INTERNAL_ERROR")
        assert answer["params"]["errmsg"] == "Process failed,please try again later."


@pytest.mark.parametrize("fault", FAULTS[:2])
def test_a_group_whose_rows_cannot_be_read_has_a_code_of_its_own(
    client: Client, world: World, fault: Exception
) -> None:
    world.faults = {"group": fault}

    response = client.post("/v1/group/activity/agg", json=GROUP)

    params = response.json()["params"]
    assert (response.status_code, response.json()["responseCode"]) == (500, "SERVER_ERROR")
    assert params["err"] == params["status"] == "ERR_CALLING_GROUOP_API"
    assert params["errmsg"] == "Error while calling group api."


def test_a_cache_that_is_down_changes_no_answer(client: Client, world: World) -> None:
    world.faults = {"structs": WorldFault("down"), "put": WorldFault("down")}

    response = client.post("/v1/group/activity/agg", json=GROUP)

    assert (response.status_code, len(response.json()["result"]["members"])) == (200, 1)
    assert "aggregates_group_cache_failures_total 2.0" in client.get("/metrics").text


def test_nothing_is_answered_before_the_broker_has_it(client: Client, world: World) -> None:
    client.post("/v1/assess/submit", json=SUBMIT)

    assert world.calls == ["sets", "publish"]


@pytest.mark.parametrize("path", ["/v1/content/state/read", "/v1/assess/submit"])
def test_a_request_too_many_is_refused_before_its_token_and_its_body_are_looked_at(
    client: Client, world: World, path: str
) -> None:
    def refusal() -> httpx.Response:
        headers = {"x-authenticated-user-token": "invalid", "content-length": "10000000"}
        return client.post(path, json=STATE, **headers)

    assert refusal().status_code in (400, 401)
    with ExitStack() as all_open:
        for _ in range(client.admission.max_limit):
            all_open.enter_context(client.admission.open())
        total = refusal()
    limit = client.admission.limit("content_state" if path == "/v1/content/state/read" else "submit")
    with ExitStack() as in_flight:
        for _ in range(limit.value):
            in_flight.enter_context(limit.slot())
        of_operation = refusal()

    for response in (total, of_operation):
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert response.json()["responseCode"] == "SERVER_ERROR"
    assert refusal().status_code in (400, 401)
    assert world.calls == []


def test_without_redis_requests_still_come(client: Client, world: World) -> None:
    world.faults = {"open": WorldFault("Redis is down")}

    assert (client.get("/health").status_code, client.get("/health/ready").status_code) == (503, 200)


def test_without_cassandra_no_requests_come(client: Client, world: World) -> None:
    world.faults = {"ping": WorldFault("Cassandra and Kafka are down")}

    assert (client.get("/health/ready").status_code, client.get("/health/live").status_code) == (503, 200)


class RecordingCassandra:
    """Answers every read with nothing and keeps what was asked."""

    def __init__(self) -> None:
        self.reads: list[tuple[str, Any]] = []

    async def prepare(self, statement: str, _: object = None) -> str:
        return statement

    def usable_time_ms(self, _: str, time_ms: int | None) -> int | None:
        return time_ms

    async def read(self, statement: str, parameters: Sequence[Any]) -> list[list[Any]]:
        self.reads += [(statement, values) for values in parameters]
        return [[] for _ in parameters]


def reads_of(query: ContentStateQuery) -> list[tuple[str, Any]]:
    cassandra = RecordingCassandra()

    async def run() -> None:
        store = Store(cast(Cassandra, cassandra), "k")
        await store.prepare()
        await store.content_states(query)

    asyncio.run(run())
    return cassandra.reads


def test_without_score_nothing_but_consumption_is_read() -> None:
    [(statement, parameters)] = reads_of(ContentStateQuery("u", "c", "b", (), False))

    assert "user_content_consumption" in statement
    assert parameters == ("u", "c", "b")


def test_with_score_there_are_three_reads_however_many_contents() -> None:
    for count in (0, 1, MAX_IN, MAX_IN + 1):
        reads = reads_of(ContentStateQuery("u", "c", "b", [f"do_{number}" for number in range(count)], True))

        assert len(reads) == 3
        assert sum(" IN ?" in statement for statement, _ in reads) == (2 if 0 < count <= MAX_IN else 0)
        assert ("Course", "c", "u", "cb:b") in [parameters for _, parameters in reads]


def test_ids_that_no_row_can_have_are_not_asked_for() -> None:
    assert reads_of(ContentStateQuery("u", "c" * 70_000, "b", (), True)) == []
    assert len(reads_of(ContentStateQuery("u", "c", "b", ["x" * 70_000], True))) == 1
