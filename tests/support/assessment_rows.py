"""Values of the rows that the assessment aggregator writes."""

from datetime import UTC, datetime

T0_TEXT = "May 14, 2024, 9:12:40 AM"


T0_DATETIME = datetime(2024, 5, 14, 9, 12, 40, 2_000)


def now() -> datetime:
    """As Cassandra keeps it: without a zone, to the ms."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def detail(content_id: str, attempt_id: str, score: float, max_score: float, time: str = T0_TEXT) -> str:
    """An element of ``agg_details``."""
    return (
        f'{{"attempt_id":"{attempt_id}","last_attempted_on":"{time}","score":{score},"content_id":"{content_id}",'
        f'"max_score":{max_score},"type":"attempt_metrics"}}'
    )
