"""``python -m jobs.go_back --job NAME``: writes what the Scala job of the same name needs in order to take over again.

* Both aggregators: the entries of ``aggregates`` are copied to ``agg``, truncated to integers. Readers that know only
  ``agg`` then show what was counted meanwhile.
* ``activity_aggregate_updater`` with ``--deduplication-redis``: the keys by which the Scala job recognises completions
  that are counted already. Without them it counts a completion again when its event comes again.

Run it after the jobs here have been stopped and before the Scala jobs are started. It may be repeated: a second run
finds nothing to write. Rows are read range by range, and nothing is deleted. Fractions cannot be kept, because ``agg``
holds integers.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import md5
from math import isfinite
from pathlib import Path

import redis

from common.config.loader import ConfigError, load
from common.config.model import JobConfig
from common.domain import aggregates
from common.domain.faults import TaskFault, WorldFault
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, StatementError, Write
from jobs import config_class

COPIED = {
    "assessment_aggregator": tuple(
        f"{metric}:" for metric in (aggregates.SCORE, aggregates.MAX_SCORE, aggregates.ATTEMPTS_COUNT)
    ),
    "activity_aggregate_updater": (aggregates.COMPLETED_COUNT,),
}
"""How the entries begin that each job writes, here and there. The certificate pre-processor writes no rows."""

_INT_MAX = 2**31 - 1
_PAGE_SIZE = 1000
_COMPLETED = 2


def integers_to_copy(
    prefixes: Sequence[str], agg: Mapping[str, int] | None, new: Mapping[str, float] | None
) -> dict[str, int]:
    """The entries of ``aggregates`` (``new``) that ``agg`` does not have yet, truncated as in the Scala jobs.

    Numbers that an ``int`` of Cassandra cannot hold are left out.
    """
    truncated = {
        key: int(value)
        for key, value in (new or {}).items()
        if key.startswith(tuple(prefixes)) and isfinite(value) and abs(value) <= _INT_MAX
    }
    return {key: value for key, value in truncated.items() if (agg or {}).get(key) != value}


def deduplication_key(course_id: str, batch_id: str, user_id: str, content_id: str) -> str:
    """The key in Redis of a completed content, as the Scala job makes it."""
    text = "|".join((course_id, batch_id, user_id, content_id, str(_COMPLETED)))
    return md5(text.encode(), usedforsecurity=False).hexdigest().upper()


async def copy_aggregates(
    cassandra: Cassandra, keyspace: str, prefixes: Sequence[str], ranges: int, *, dry_run: bool
) -> Counter[str]:
    """Copies entries to ``agg``. Returns how many rows were read, rows changed and entries written."""
    table = f"{keyspace}.user_activity_agg"
    key = "activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"
    update = await cassandra.prepare(f"UPDATE {table} SET agg = agg + ? WHERE {key}")
    select = f"SELECT activity_type, activity_id, user_id, context_id, agg, aggregates FROM {table}"
    counts: Counter[str] = Counter()
    rows_of_range = await cassandra.prepare(_by_range(select, "activity_type, activity_id, user_id"))
    async for rows in cassandra.scan(rows_of_range, (), ranges, _PAGE_SIZE):
        writes = []
        for *row_key, agg, new in rows:
            counts["rows read"] += 1
            if entries := integers_to_copy(prefixes, agg, new):
                counts["rows changed"] += 1
                counts["entries written to agg"] += len(entries)
                writes.append([Write(update, (entries, *row_key))])
        if not dry_run:
            await cassandra.write(writes)
    return counts


async def write_deduplication_keys(
    cassandra: Cassandra, keyspace: str, server: "redis.Redis", expiry_seconds: int, ranges: int, *, dry_run: bool
) -> Counter[str]:
    """Sets a key for each content that was counted in the last ``expiry_seconds``. Returns how many keys are new."""
    select = (
        "SELECT userid, courseid, batchid, contentid, completedcount, writetime(completedcount) "
        f"FROM {keyspace}.user_content_consumption"
    )
    counts: Counter[str] = Counter()
    rows_of_range = await cassandra.prepare(_by_range(select, "userid"))
    async for rows in cassandra.scan(rows_of_range, (), ranges, _PAGE_SIZE):
        pipeline = server.pipeline(transaction=False)
        for user_id, course_id, batch_id, content_id, completed, written_us in rows:
            left = int(written_us / 1_000_000 + expiry_seconds - time.time()) if completed else 0
            if left > 0:
                name = deduplication_key(course_id, batch_id, user_id, content_id)
                counts["contents counted recently"] += 1
                # The Scala job's own key may live longer.
                pipeline.exists(name) if dry_run else pipeline.set(name, "", ex=left, nx=True)
        answers = await asyncio.to_thread(pipeline.execute)
        counts["keys written to Redis"] += sum(not answer if dry_run else bool(answer) for answer in answers)
    return counts


def _by_range(select: str, key: str) -> str:
    return f"{select} WHERE token({key}) > ? AND token({key}) <= ?"


async def go_back(
    config: JobConfig, prefixes: Sequence[str], options: argparse.Namespace, server: "redis.Redis | None"
) -> Counter[str]:
    """Does all that is asked for. Raises WorldFault, TaskFault, StatementError and redis.RedisError."""
    cassandra = Cassandra(config.cassandra, Metrics())
    await cassandra.open()
    keyspace = config.cassandra.keyspace
    try:
        counts = await copy_aggregates(cassandra, keyspace, prefixes, options.ranges, dry_run=options.dry_run)
        if server is not None:
            counts += await write_deduplication_keys(
                cassandra, keyspace, server, options.expiry_seconds, options.ranges, dry_run=options.dry_run
            )
    finally:
        await cassandra.close()
    return counts


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 if everything is written, 1 if not, 2 for wrong arguments or configuration."""
    parser = argparse.ArgumentParser(prog="python -m jobs.go_back", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--job", required=True, choices=COPIED)
    parser.add_argument("--config", type=Path, metavar="FILE", help="the file that the job is started with")
    parser.add_argument("--dry-run", action="store_true", help="only count")
    parser.add_argument(
        "--deduplication-redis", type=_address, metavar="HOST:PORT/DATABASE", help="dedup-redis of the Scala job"
    )
    parser.add_argument(
        "--expiry-seconds", type=int, default=604_800, help="dedup-redis.database.expiry (default: %(default)s)"
    )
    parser.add_argument("--ranges", type=int, default=1024, help="parts that a table is read in (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.deduplication_redis and options.job != "activity_aggregate_updater":
        parser.error("only the activity aggregate updater has --deduplication-redis")
    try:
        config = load(config_class(options.job), options.config)
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    server = None
    if options.deduplication_redis:
        host, port, database = options.deduplication_redis
        password = config.redis.password
        server = redis.Redis(host, port, database, password=password.get_secret_value() if password else None)
    try:
        counts = asyncio.run(go_back(config, COPIED[options.job], options, server))
    except (WorldFault, TaskFault, StatementError, redis.RedisError) as fault:
        print(fault, file=sys.stderr)
        return 1
    would = " (a dry run: nothing was written)" if options.dry_run else ""
    print(", ".join(f"{count} {what}" for what, count in counts.items()) + would)
    return 0


def _address(text: str) -> tuple[str, int, int]:
    host, _, rest = text.partition(":")
    port, _, database = rest.partition("/")
    if not (host and port.isdigit() and database.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT/DATABASE")
    return host, int(port), int(database)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
