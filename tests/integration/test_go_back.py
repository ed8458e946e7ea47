"""Going back to the Scala jobs: `agg` and the keys in Redis get what was counted meanwhile."""

import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
import redis
from cassandra.cluster import Session

from common.domain.aggregates import ACTIVITY_TYPE, context_id
from jobs.go_back import deduplication_key, main
from local.world import World

DEDUPLICATION = 3
"""The number of the Scala job's Redis database."""
EXPIRY_SECONDS = 1000


@pytest.fixture
def keys(world: World) -> Iterator["redis.Redis"]:
    with world.redis.client(db=DEDUPLICATION, decode_responses=True) as client:
        yield client


def run(monkeypatch: pytest.MonkeyPatch, world: World, job: str, *arguments: str) -> None:
    with monkeypatch.context() as context:
        for name, value in world.job_environment(f"jobs.{job}").items():
            context.setenv(name, value)
        assert main(["--job", job, "--ranges", "16", *arguments]) == 0


def row_of(session: Session, user_id: str) -> Any:
    return session.execute(
        "SELECT agg, aggregates FROM user_activity_agg "
        "WHERE activity_type = %s AND activity_id = 'do_1' AND user_id = %s AND context_id = %s",
        (ACTIVITY_TYPE, user_id, context_id("b-1")),
    ).one()


def test_aggregates_are_copied_to_agg(
    world: World,
    cassandra_session: Session,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = {"score:do_2": 7.5, "max_score:do_2": 10.0, "attempts_count:do_2": 3.0, "completedCount": 4.0}
    cassandra_session.execute(
        "INSERT INTO user_activity_agg (activity_type, activity_id, user_id, context_id, agg, aggregates) "
        "VALUES (%s, 'do_1', %s, %s, %s, %s)",
        (ACTIVITY_TYPE, unique, context_id("b-1"), {"score:do_2": 6, "score:do_3": 2}, new),
    )
    run(monkeypatch, world, "assessment_aggregator", "--dry-run")
    assert "nothing was written" in capsys.readouterr().out
    assert row_of(cassandra_session, unique).agg == {"score:do_2": 6, "score:do_3": 2}

    run(monkeypatch, world, "assessment_aggregator")
    copied = {"score:do_2": 7, "max_score:do_2": 10, "attempts_count:do_2": 3, "score:do_3": 2}
    assert row_of(cassandra_session, unique).agg == copied
    run(monkeypatch, world, "activity_aggregate_updater")
    assert row_of(cassandra_session, unique).agg == {**copied, "completedCount": 4}
    assert row_of(cassandra_session, unique).aggregates == new
    # A second run finds nothing to write.
    capsys.readouterr()
    run(monkeypatch, world, "activity_aggregate_updater")
    assert "entries written" not in capsys.readouterr().out


def test_recent_completions_get_the_keys_of_the_scala_job(
    world: World, cassandra_session: Session, keys: "redis.Redis", unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = int(time.time() * 1_000_000)
    for content_id, completed, written_us in (
        ("recent", 1, now_us - 400_000_000),
        ("old", 1, now_us - (EXPIRY_SECONDS + 60) * 1_000_000),
        ("only viewed", 0, now_us),
        ("known", 1, now_us),
    ):
        cassandra_session.execute(
            "UPDATE user_content_consumption USING TIMESTAMP %s SET completedcount = %s "
            "WHERE userid = %s AND courseid = 'do_1' AND batchid = 'b-1' AND contentid = %s",
            (written_us, completed, unique, content_id),
        )
    known = deduplication_key("do_1", "b-1", unique, "known")
    keys.set(known, "", ex=5000)
    arguments = (
        *("--deduplication-redis", f"{world.redis.host}:{world.redis.port}/{DEDUPLICATION}"),
        *("--expiry-seconds", str(EXPIRY_SECONDS)),
    )
    recent = deduplication_key("do_1", "b-1", unique, "recent")
    run(monkeypatch, world, "activity_aggregate_updater", *arguments, "--dry-run")
    assert not keys.exists(recent)

    run(monkeypatch, world, "activity_aggregate_updater", *arguments)
    assert keys.get(recent) == ""
    # The client's type covers its asynchronous twin, too.
    assert 500 < cast(int, keys.ttl(recent)) <= 600
    assert cast(int, keys.ttl(known)) > EXPIRY_SECONDS
    for content_id in ("old", "only viewed"):
        assert not keys.exists(deduplication_key("do_1", "b-1", unique, content_id))
