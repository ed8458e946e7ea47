"""Statements on a real Cassandra: values, order, batches, pages, bounds, and which failure is whose fault."""

import asyncio
import gc
import re
import socket
import struct
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from cassandra.cluster import Session

from common.config.model import CassandraConfig
from common.domain import native_protocol
from common.domain.faults import TaskFault, WorldFault
from common.domain.native_protocol import UserTypeEncoder
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, StatementError, Write, next_timestamp_us, token_ranges
from local.world import World
from tests.support.cassandra_proxy import RESULT, CassandraProxy, Frame, behind_a_proxy, let_the_node_answer, opened

TABLE = "sunbird_courses.user_content_consumption"
INSERT = f"INSERT INTO {TABLE} (userid, courseid, batchid, contentid, status) VALUES (?, ?, ?, ?, ?)"
SELECT = f"SELECT contentid, status FROM {TABLE} WHERE userid = ? AND courseid = ?"
INSERT_QUESTIONS = (
    "INSERT INTO sunbird_courses.assessment_aggregator "
    "(user_id, course_id, batch_id, content_id, attempt_id, question) VALUES (?, 'c', 'b', 'do_1', 'a', ?)"
)
VOID = struct.pack(">i", 1)


class Text(str):
    """A text that a test can watch."""


@pytest.fixture
def config(world: World) -> CassandraConfig:
    return CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)


class TestStatements:
    async def test_results_are_in_the_order_of_the_parameters(self, config: CassandraConfig, unique: str) -> None:
        # Fewer at a time than there are, so that they end in another order than they began.
        async with opened(config, max_concurrent_statements=7) as (cassandra, metrics):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            await cassandra.write([[Write(insert, (f"{unique}-{n}", "c", "b", "do_1", n))] for n in range(300)])
            rows = await cassandra.read(select, [(f"{unique}-{n}", "c") for n in reversed(range(301))])
            assert rows == [[], *([("do_1", n)] for n in reversed(range(300)))]
            assert metrics.counts["rows_written"] == metrics.counts["rows_read"] == 300
            assert await cassandra.read(select, []) == []

    async def test_writes_of_a_partition_go_as_one_batch(self, config: CassandraConfig, unique: str) -> None:
        async with opened(config) as (cassandra, metrics):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            update = await cassandra.prepare(
                f"UPDATE {TABLE} SET status = ? WHERE userid = ? AND courseid = ? AND batchid = ? AND contentid = ?"
            )
            key = (unique, "c", "b", "do_1")
            await cassandra.write(
                [
                    [Write(insert, (*key[:3], "do_2", 5)), Write(update, (1, *key))],
                    [],
                    [Write(insert, (f"{unique}-other", "c", "b", "do_3", 6))],
                ]
            )
            assert await cassandra.read(select, [(unique, "c"), (f"{unique}-other", "c")]) == [
                [("do_1", 1), ("do_2", 5)],
                [("do_3", 6)],
            ]
            assert metrics.counts["rows_written"] == 3

    async def test_no_value_of_an_answered_request_waits_for_the_garbage_collector(
        self, config: CassandraConfig, unique: str
    ) -> None:
        """A worker collects rarely: events of a megabyte would fill its memory until then."""
        async with opened(config) as (cassandra, _):
            insert = await cassandra.prepare(INSERT)
            users = [Text(f"{unique}-{n}") for n in range(10)]
            kept = [weakref.ref(user) for user in users]
            gc.collect()
            gc.disable()
            try:
                await cassandra.write([[Write(insert, (user, "c", "b", "do_1", 1))] for user in users])
                # The answer that ends the call is still being handled when the call returns.
                await asyncio.sleep(0)
                users.clear()
                assert [user() for user in kept] == [None] * len(kept)
            finally:
                gc.enable()

    async def test_rows_come_in_pages(self, config: CassandraConfig, unique: str) -> None:
        async with opened(config) as (cassandra, metrics):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            rows = [(f"do_{n:03}", n) for n in range(25)]
            await cassandra.write([[Write(insert, (unique, "c", "b", *row)) for row in rows]])
            pages = [page async for page in cassandra.pages(select, (unique, "c"), 10)]
            assert [len(page) for page in pages] == [10, 10, 5]
            assert [row for page in pages for row in page] == rows
            assert metrics.counts["rows_read"] == 25
            assert [page async for page in cassandra.pages(select, (unique, "other"), 10)] == []

    async def test_token_ranges_cover_each_row_once(self, config: CassandraConfig, unique: str) -> None:
        async with opened(config) as (cassandra, _):
            insert = await cassandra.prepare(INSERT)
            users = {f"{unique}-{n}" for n in range(50)}
            await cassandra.write([[Write(insert, (user, unique, "b", "do_1", 1))] for user in users])
            select = await cassandra.prepare(
                f"SELECT userid FROM {TABLE} WHERE courseid = ? AND token(userid) > ? AND token(userid) <= ? "
                "ALLOW FILTERING"
            )
            found = await cassandra.read(select, [(unique, *bounds) for bounds in token_ranges(7)])
            assert sorted(user for rows in found for (user,) in rows) == sorted(users)
            assert sum(map(bool, found)) > 1

    async def test_a_session_can_be_closed_twice_and_opened_again(self, config: CassandraConfig) -> None:
        cassandra = Cassandra(config, Metrics())
        await cassandra.close()
        for _ in range(2):
            await cassandra.open()
            await cassandra.prepare(SELECT)
            await cassandra.close()
        await cassandra.close()
        with pytest.raises(RuntimeError, match="not open"):
            await cassandra.prepare(SELECT)

    async def test_a_node_that_has_forgotten_a_statement_is_told_it_again(
        self, config: CassandraConfig, unique: str
    ) -> None:
        async with behind_a_proxy(config) as (cassandra, proxy):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            refused: set[bytes] = set()

            async def forget(frame: Frame) -> Frame | None:
                if frame.body in refused:
                    return None
                refused.add(frame.body)
                return frame.error(0x2500, "unknown", struct.pack(">H", 4) + b"abcd")

            proxy.answer = forget
            writes = [[Write(insert, (f"{unique}-{n}", "c", "b", "do_1", n))] for n in range(20)]
            batch = [Write(insert, (f"{unique}-batch", "c", "b", f"do_{n}", n)) for n in range(2)]
            await cassandra.write([*writes, batch])
            # What was refused was not executed, so it is sent as it was, timestamp and all.
            assert len(proxy.requests) == 2 * len(refused) == 42
            assert await cassandra.read(select, [(f"{unique}-{n}", "c") for n in (0, 19)]) == [
                [("do_1", 0)],
                [("do_1", 19)],
            ]

    async def test_a_statement_that_no_node_remembers_is_the_world(self, config: CassandraConfig) -> None:
        async with behind_a_proxy(config) as (cassandra, proxy):
            select = await cassandra.prepare(SELECT)

            async def forget(frame: Frame) -> Frame | None:
                return frame.error(0x2500, "it is unknown", struct.pack(">H", 4) + b"abcd")

            proxy.answer = forget
            with pytest.raises(WorldFault, match="it is unknown"):
                await cassandra.read(select, [("u", "c")])
            assert len(proxy.requests) == 2


class TestValues:
    async def test_all_types_of_our_tables_arrive_as_they_were(
        self, config: CassandraConfig, unique: str, cassandra_session: Session
    ) -> None:
        """Written and read here, and read by the driver in its own way."""
        cassandra_session.execute(
            "CREATE TABLE IF NOT EXISTS values_of_all_types (id text PRIMARY KEY, an_int int, a_bigint bigint, "
            "a_double double, a_float float, a_boolean boolean, a_blob blob, a_decimal decimal, a_time timestamp, "
            "a_date date, a_list list<text>, a_set set<int>, a_map map<text, double>, times map<text, timestamp>, "
            "nested map<text, frozen<map<text, text>>>, maps list<frozen<map<text, text>>>)"
        )
        moment = datetime(2024, 5, 14, 9, 12, 40, 2_000, UTC)
        time_ms = 1_715_677_960_002
        values = {
            "id": unique,
            "an_int": -7,
            "a_bigint": 2**40,
            "a_double": 0.1,
            "a_float": 0.5,
            "a_boolean": True,
            "a_blob": b"\0\xff",
            "a_decimal": Decimal("12.40"),
            "a_time": time_ms,
            "a_list": ["b", "a", "ß"],
            "a_set": {3, 1},
            "a_map": {"a": 1.5, "": -0.0},
            "times": {"k": time_ms},
            "nested": {"a": {"b": "c"}, "d": {}},
            "maps": [{"a": "b"}, {}],
        }
        names = ", ".join(values)

        async with opened(config) as (cassandra, _):
            insert = await cassandra.prepare(
                f"INSERT INTO sunbird_courses.values_of_all_types ({names}) VALUES ({', '.join('?' * len(values))})"
            )
            select = await cassandra.prepare(
                f"SELECT {names}, a_date FROM sunbird_courses.values_of_all_types WHERE id = ?"
            )
            await cassandra.write([[Write(insert, tuple({**values, "a_time": moment}.values()))]])
            assert await cassandra.read(select, [(unique,)]) == [[(*values.values(), None)]]
            assert select.column_names == [*values, "a_date"]
            empty = dict.fromkeys(values) | {"id": f"{unique}-empty"}
            await cassandra.write([[Write(insert, tuple(empty.values()))]])
            assert await cassandra.read(select, [(f"{unique}-empty",)]) == [[(*empty.values(), None)]]
        row = cassandra_session.execute(f"SELECT {names} FROM values_of_all_types WHERE id = %s", [unique]).one()
        naive = moment.replace(tzinfo=None)
        expected = {**values, "a_time": naive, "times": {"k": naive}}
        for name, value in row._asdict().items():
            plain = dict(value) if name in ("a_map", "times") else value
            if name == "maps":
                plain = [dict(entries) for entries in value]
            elif name == "nested":
                plain = {key: dict(entries) for key, entries in value.items()}
            assert plain == expected[name], name

    async def test_a_time_that_no_datetime_can_hold_is_a_value(
        self, config: CassandraConfig, unique: str, cassandra_session: Session
    ) -> None:
        times = [2**63 - 1, -(2**63), 1_715_677_960_002_000, -62_135_596_800_001, 0]
        async with opened(config) as (cassandra, metrics):
            insert = await cassandra.prepare(
                f"INSERT INTO {TABLE} (userid, courseid, batchid, contentid, last_access_time) "
                "VALUES (?, 'c', 'b', ?, ?)"
            )
            select = await cassandra.prepare(f"SELECT last_access_time FROM {TABLE} WHERE userid = ?")
            await cassandra.write([[Write(insert, (unique, f"do_{n}", time)) for n, time in enumerate(times)]])
            (rows,) = await cassandra.read(select, [(unique,)])
            assert [time for (time,) in rows] == times
            usable = [cassandra.to_datetime("last_access_time", time) for time in (*times, None)]
            assert usable == [None, None, None, None, datetime(1970, 1, 1, tzinfo=UTC), None]
            assert metrics.counts["unusable_times", "column", "last_access_time"] == 4

            select = await cassandra.prepare(f"SELECT toJson(last_access_time) FROM {TABLE} WHERE userid = ?")
            (rows,) = await cassandra.read(select, [(unique,)])
            usable_ms = [cassandra.usable_json_time_ms("as_json", text.strip('"')) for (text,) in rows]
            before_year_1 = usable_ms.pop(3)
            assert usable_ms == [None, None, None, 0]
            assert metrics.counts["unusable_times", "column", "as_json"] == 3
            # Cassandra wrote it without its era.
            assert before_year_1 is not None

    async def test_a_parameter_can_have_an_encoder_of_its_own(self, config: CassandraConfig, unique: str) -> None:
        async with opened(config) as (cassandra, _):
            ids = UserTypeEncoder(
                lambda ids: native_protocol.elements([native_protocol.sized(native_protocol.text(one)) for one in ids]),
                {"id": "text"},
            )
            insert = await cassandra.prepare(INSERT_QUESTIONS, {"question": ids})
            select = await cassandra.prepare(
                "SELECT question FROM sunbird_courses.assessment_aggregator WHERE user_id = ? AND course_id = 'c'"
            )
            await cassandra.write([[Write(insert, (unique, ["q1", "q2"]))]])
            (((questions,),),) = await cassandra.read(select, [(unique,)])
            assert [(question["id"], question["score"]) for question in questions] == [("q1", None), ("q2", None)]
            with pytest.raises(ValueError, match="no parameter nothing: INSERT"):
                await cassandra.prepare(INSERT, {"nothing": ids})

    async def test_an_encoder_of_other_fields_than_those_of_the_type_is_refused(self, config: CassandraConfig) -> None:
        """On the wire they have no names: the score would be stored as the maximum."""
        async with opened(config) as (cassandra, _):
            fields = {"id": "text", "assess_ts": "timestamp", "max_score": "int"}
            with pytest.raises(
                TaskFault, match=r"question is list<frozen<question>> with .* max_score double, .*max_score int\)"
            ):
                await cassandra.prepare(INSERT_QUESTIONS, {"question": UserTypeEncoder(native_protocol.text, fields)})

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            (("u", "c", "b", 0.1, 1), "contentid is no text: 'float'.*: INSERT INTO"),
            (("u", "c", "b", "do_1", 2**31), "status is no int: .*: INSERT INTO"),
            (("u", "c", "b", "\ud800", 1), "contentid is no text: .*surrogates.*: INSERT INTO"),
            (("u", "c", "b", "do_1"), "4 values for 5 parameters: INSERT INTO"),
            (("", "c", "b", "do_1", 1), "Key may not be empty.*: INSERT INTO"),
            (("x" * 70_000, "c", "b", "do_1", 1), "70000.*65535.*: INSERT INTO"),
            ((None, "c", "b", "do_1", 1), "null.*userid.*: INSERT INTO"),
        ],
    )
    async def test_a_value_that_cannot_be_stored_is_the_statements_fault(
        self, config: CassandraConfig, values: Sequence[Any], text: str
    ) -> None:
        async with opened(config) as (cassandra, _):
            insert = await cassandra.prepare(INSERT)
            for writes in ([Write(insert, values)], [Write(insert, values)] * 2):
                with pytest.raises(StatementError, match=f"(?i){text}"):
                    await cassandra.write([writes])


class TestFaults:
    @pytest.mark.parametrize(
        ("statement", "text"),
        [
            ("SELECT a FROM nowhere.t WHERE a = ?", "nowhere"),
            ("SELECT a FROM sunbird_courses.nothing WHERE a = ?", "nothing"),
            ("SELECT none FROM sunbird_courses.course_batch WHERE courseid = ?", "none"),
            ("SELEKT 1", "SELEKT"),
        ],
    )
    async def test_a_statement_that_the_schema_does_not_fit_ends_the_task(
        self, config: CassandraConfig, statement: str, text: str
    ) -> None:
        async with opened(config) as (cassandra, _):
            with pytest.raises(TaskFault, match=f"Cassandra refuses a statement: .*{text}"):
                await cassandra.prepare(statement)

    @pytest.mark.parametrize("change", ["DROP TABLE {}", "ALTER TABLE {} DROP score"])
    async def test_so_does_one_that_the_schema_does_not_fit_any_more(
        self, config: CassandraConfig, unique: str, change: str
    ) -> None:
        """Each of its events would go to the failed topic otherwise. Nodes forget the statements of such a table."""
        table = f"sunbird_courses.t_{unique}"
        async with opened(config) as (cassandra, _):
            await cassandra.execute(f"CREATE TABLE {table} (id text PRIMARY KEY, score int)", 60)
            try:
                insert = await cassandra.prepare(f"INSERT INTO {table} (id, score) VALUES (?, ?)")
                await cassandra.write([[Write(insert, ("1", 1))]])
                await cassandra.execute(change.format(table), 60)
                with pytest.raises(TaskFault, match="Cassandra refuses a statement: "):
                    await cassandra.write([[Write(insert, (f"{n}", n))] for n in range(20)])
            finally:
                await cassandra.execute(f"DROP TABLE IF EXISTS {table}", 60)

    async def test_no_server_is_the_world(self, config: CassandraConfig) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(WorldFault, match=rf"Cassandra: no node can be used: 127.0.0.1:{port}: .*refused"):
            async with opened(config, port=port):
                raise AssertionError("there is no server")

    async def test_a_name_that_no_dns_knows_is_the_world(self, config: CassandraConfig) -> None:
        with pytest.raises(WorldFault, match=r"Cassandra: no address is known of no\.such\.host\.invalid"):
            async with opened(config, contact_points=("no.such.host.invalid",)):
                raise AssertionError("there is no server")

    async def test_nodes_that_all_have_new_addresses_are_found_again(
        self, config: CassandraConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name, address = "cassandra.test", "127.0.0.2"
        resolve = socket.getaddrinfo

        def resolve_ours(host: Any, *rest: Any, **options: Any) -> Any:
            return resolve(address if host == name else host, *rest, **options)

        monkeypatch.setattr(socket, "getaddrinfo", resolve_ours)
        async with CassandraProxy(config.port, address=address) as old:
            cassandra = Cassandra(config.model_copy(update={"contact_points": (name,), "port": old.port}), Metrics())
            await cassandra.open()
            select = await cassandra.prepare(SELECT)
        address = "127.0.0.3"
        try:
            async with CassandraProxy(config.port, address=address, port=old.port), asyncio.timeout(30):
                while True:
                    try:
                        assert await cassandra.read(select, [("u", "c")]) == [[]]
                        break
                    except WorldFault:
                        await asyncio.sleep(0.1)
        finally:
            await cassandra.close()

    async def test_a_server_that_does_not_answer_is_the_world(self, config: CassandraConfig) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(WorldFault, match="Cassandra: "):
            async with opened(config, port=server.getsockname()[1], connect_timeout_ms=200):
                raise AssertionError("it took no connection")

    CONSISTENCY_AND_TWO = struct.pack(">Hii", 6, 2, 1)

    @pytest.mark.parametrize(
        ("code", "more", "fault"),
        [
            (0x0000, b"", WorldFault),  # server error
            (0x1000, CONSISTENCY_AND_TWO, WorldFault),  # unavailable
            (0x1001, b"", WorldFault),  # overloaded
            (0x1002, b"", WorldFault),  # bootstrapping
            (0x1003, b"", WorldFault),  # truncate
            (0x1100, CONSISTENCY_AND_TWO + b"\0\6SIMPLE", WorldFault),  # write timeout
            (0x1200, CONSISTENCY_AND_TWO + b"\0", WorldFault),  # read timeout
            (0x1300, CONSISTENCY_AND_TWO + struct.pack(">i?", 1, False), WorldFault),  # read failure
            (0x1500, CONSISTENCY_AND_TWO + struct.pack(">i", 1) + b"\0\6SIMPLE", WorldFault),  # write failure
            (0x0100, b"", TaskFault),  # bad credentials
            (0x2100, b"", TaskFault),  # unauthorized
            (0x2300, b"", TaskFault),  # configuration
            (0x2000, b"", StatementError),  # syntax
            (0x2200, b"", StatementError),  # invalid
        ],
    )
    async def test_errors_of_a_node_are_told_apart(
        self, config: CassandraConfig, code: int, more: bytes, fault: type[Exception]
    ) -> None:
        async with behind_a_proxy(config) as (cassandra, proxy):
            select = await cassandra.prepare(SELECT)

            async def refuse(frame: Frame) -> Frame | None:
                return frame.error(code, "it is as it is", more)

            proxy.answer = refuse
            with pytest.raises(fault, match="it is as it is"):
                await cassandra.read(select, [("u", "c")])

    async def test_an_answer_that_cannot_be_read_fails_its_statement_alone(
        self, config: CassandraConfig, unique: str
    ) -> None:
        async with behind_a_proxy(config) as (cassandra, proxy):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            await cassandra.write([[Write(insert, (unique, "c", "b", "do_1", 1))]])
            broken_has_failed = asyncio.Event()

            async def break_one(frame: Frame) -> Frame | None:
                if b"broken" in frame.body:
                    return frame.answer(RESULT, struct.pack(">iiii", 2, 4, 2, 1) + b"\0\0")
                await broken_has_failed.wait()
                return None

            proxy.answer = break_one
            other = asyncio.ensure_future(cassandra.read(select, [(unique, "c")]))
            with pytest.raises(StatementError, match=f"(?s){re.escape(SELECT)}"):
                await cassandra.read(select, [("broken", "c")])
            broken_has_failed.set()
            assert await other == [[("do_1", 1)]]
            assert proxy.connections == 2  # one of them is the driver's own

    async def test_an_answer_in_single_bytes_is_read(self, config: CassandraConfig, unique: str) -> None:
        async with behind_a_proxy(config) as (cassandra, proxy):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            await cassandra.write([[Write(insert, (unique, "c", "b", f"do_{n}", n))] for n in range(9)])
            proxy.bytes_at_a_time = 1
            assert await cassandra.read(select, [(unique, "c")] * 3) == [[(f"do_{n}", n) for n in range(9)]] * 3

    async def test_a_warning_of_the_node_does_no_harm(self, config: CassandraConfig, unique: str) -> None:
        async with opened(config) as (cassandra, _):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            # Cassandra warns of batches above 5 KiB.
            batch = [Write(insert, (unique, "c", "b", f"do_{n}{'x' * 1_000}", n)) for n in range(60)]
            await cassandra.write([batch])
            assert len((await cassandra.read(select, [(unique, "c")]))[0]) == 60


class TestConcurrency:
    async def test_is_bounded_over_all_calls_of_a_session(self, config: CassandraConfig) -> None:
        async with behind_a_proxy(config, max_concurrent_statements=3) as (cassandra, proxy):
            select = await cassandra.prepare(SELECT)
            await asyncio.gather(*(cassandra.read(select, [("u", "c")] * 20) for _ in range(4)))
            assert len(proxy.requests) == 80
            assert proxy.most_in_flight == 3

    async def test_after_a_failure_nothing_starts_and_what_is_in_flight_is_waited_for(
        self, config: CassandraConfig
    ) -> None:
        async with behind_a_proxy(config, max_concurrent_statements=2) as (cassandra, proxy):
            select = await cassandra.prepare(SELECT)
            slow = asyncio.Event()
            failed = asyncio.Event()

            async def answer(frame: Frame) -> Frame | None:
                if b"user-0" in frame.body:
                    await slow.wait()
                    return None
                failed.set()
                return frame.error(0x2200, "invalid")

            proxy.answer = answer
            call = asyncio.ensure_future(cassandra.read(select, [(f"user-{n}", "c") for n in range(10)]))
            await failed.wait()
            done, _ = await asyncio.wait([call], timeout=0.2)
            assert not done
            slow.set()
            with pytest.raises(StatementError, match="invalid"):
                await call
            assert len(proxy.requests) == 2

    async def test_a_call_that_is_cancelled_sends_no_more(self, config: CassandraConfig) -> None:
        async with behind_a_proxy(config, max_concurrent_statements=2) as (cassandra, proxy):
            select = await cassandra.prepare(SELECT)
            release = asyncio.Event()

            async def wait(_: Frame) -> Frame | None:
                await release.wait()
                return None

            proxy.answer = wait
            call = asyncio.ensure_future(cassandra.read(select, [("u", "c")] * 10))
            while proxy.in_flight < 2:  # noqa: ASYNC110 - the proxy's own tasks change it
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            release.set()
            assert await cassandra.read(select, [("u", "c")]) == [[]]
            assert len(proxy.requests) == 3


class TestTimeouts:
    async def test_what_gets_no_answer_in_time_is_the_world_and_its_late_answer_nobodys(
        self, config: CassandraConfig, unique: str
    ) -> None:
        async with behind_a_proxy(config, request_timeout_ms=300) as (cassandra, proxy):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            await cassandra.write([[Write(insert, (unique, "c", "b", "do_1", n))] for n in range(2)])
            release = asyncio.Event()

            async def wait(frame: Frame) -> Frame | None:
                if unique.encode() in frame.body and not release.is_set():
                    await release.wait()
                return None

            proxy.answer = wait
            with pytest.raises(WorldFault, match=r"Cassandra: .*no answer within 0.3 s"):
                await cassandra.read(select, [(unique, "c")])
            release.set()
            assert await cassandra.read(select, [("nobody", "c"), (unique, "c")]) == [[], [("do_1", 1)]]
            assert len(proxy.requests) == 5  # each once: there is no other node

    async def test_a_node_that_never_answers_gets_a_new_connection(
        self, config: CassandraConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.servers.cassandra_driver.direct.MAX_UNANSWERED", 5)
        async with behind_a_proxy(config, request_timeout_ms=100) as (cassandra, proxy):
            select = await cassandra.prepare(SELECT)
            connections = proxy.connections

            async def never(_: Frame) -> Frame | None:
                await asyncio.Event().wait()
                return None

            proxy.answer = never
            with pytest.raises(WorldFault):
                await cassandra.read(select, [("u", "c")] * 10)
            while proxy.connections == connections:  # noqa: ASYNC110 - the driver's threads connect
                await asyncio.sleep(0.01)

    async def test_a_lost_connection_is_the_world_and_the_next_one_is_used(
        self, config: CassandraConfig, unique: str
    ) -> None:
        async with behind_a_proxy(config) as (cassandra, proxy):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            await cassandra.write([[Write(insert, (unique, "c", "b", "do_1", 1))]])

            async def drop(_: Frame) -> Frame | None:
                proxy.drop_connections()
                await asyncio.Event().wait()
                return None

            proxy.answer = drop
            # More than a hundred: the driver itself would fail them from another thread.
            with pytest.raises(WorldFault, match=rf"Cassandra: .*127.0.0.1:{proxy.port}"):
                await cassandra.read(select, [(unique, "c")] * 128)
            proxy.answer = let_the_node_answer
            while True:
                try:
                    assert await cassandra.read(select, [(unique, "c")]) == [[("do_1", 1)]]
                    break
                except WorldFault as fault:
                    assert str(proxy.port) in str(fault)
                    await asyncio.sleep(0.05)


class TestTimestamps:
    def test_grow_even_if_the_clock_goes_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = next_timestamp_us()
        monkeypatch.setattr("time.time_ns", lambda: (before - 10_000_000) * 1_000)
        assert [next_timestamp_us() - before for _ in range(3)] == [1, 2, 3]

    async def test_of_writes_grow(self, config: CassandraConfig, unique: str) -> None:
        async with behind_a_proxy(config) as (cassandra, proxy):
            insert = await cassandra.prepare(INSERT)
            first = next_timestamp_us()
            await cassandra.write([[Write(insert, (unique, "c", "b", "do_1", n))] for n in range(50)])
            await cassandra.write([[Write(insert, (unique, "c", "b", "do_1", n))] * 2 for n in range(50)])
            times = [struct.unpack(">q", frame.body[-8:])[0] for frame in proxy.requests]
            assert times == sorted(set(times))
            assert first < times[0] < times[-1] < next_timestamp_us()

    async def test_a_list_that_is_written_again_is_not_doubled(self, config: CassandraConfig, unique: str) -> None:
        """The same timestamp doubles it, a newer one does not, in whichever order they arrive."""
        async with opened(config) as (cassandra, _):
            await cassandra.execute(
                "CREATE TABLE IF NOT EXISTS sunbird_courses.a_list (id text PRIMARY KEY, elements list<text>)"
            )
            insert = await cassandra.prepare(
                "INSERT INTO sunbird_courses.a_list (id, elements) VALUES (?, ?) USING TIMESTAMP ?"
            )
            select = await cassandra.prepare("SELECT elements FROM sunbird_courses.a_list WHERE id = ?")
            now = next_timestamp_us()
            for name, times in (("same", (now, now)), ("newer", (now, now + 1)), ("older", (now + 1, now))):
                for time_us in times:
                    await cassandra.write([[Write(insert, (f"{unique}-{name}", ["a", "b"], time_us))]])
            found = await cassandra.read(select, [(f"{unique}-{name}",) for name in ("same", "newer", "older")])
            assert found == [[(["a", "b"] * 2,)], [(["a", "b"],)], [(["a", "b"],)]]
            assert not insert.is_repeatable
