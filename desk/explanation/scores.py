"""The steps about attempts and the best score. The sums and the percents are the jobs' own. Pure."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from common.domain import aggregates as columns
from common.domain.aggregates import ATTEMPTS_COUNT, MAX_SCORE, SCORE, contents_of, metric_key
from common.domain.events import Refused, value_or_refused
from desk.explanation.settings import JobSettings
from desk.explanation.steps import Evidence, Next, Step, Verdict
from desk.explanation.wording import Wording, content_name, percent_text, shown
from desk.recompute import recompute
from desk.records import LearnerRecord, Unknown
from desk.remedies import Remedy, command
from jobs.activity_aggregate_updater.relations import LeafNodes
from jobs.assessment_aggregator.rules import Attempt
from jobs.collection_cert_pre_processor import rules as certificate_rules

_ATTEMPTS, _AGGREGATES = "assessment_aggregator", "user_activity_agg"
_NEVER = datetime.fromtimestamp(0, UTC)

MAX_ATTEMPTS = 20
"""Attempts at a content that the evidence has one by one: the latest ones, and the best."""


def attempts(record: LearnerRecord, settings: JobSettings, wording: Wording) -> Step:
    """The stored attempts by content, and whether the stored aggregates are those that follow from them."""
    say, count = wording.sentences.say, wording.sentences.count
    submitted = [attempt for attempt in record.attempts if attempt.total_score is not None]
    drafts = len(record.attempts) - len(submitted)
    by_content: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in submitted:
        by_content[attempt.content_id].append(attempt)
    sentences = [say("attempts.none")]
    if submitted:
        sentences = [
            say(
                "attempts.some",
                attempts=count("attempts", len(submitted)),
                contents=count("contents", len(by_content)),
            )
        ]
    if drafts:
        sentences.append(say("attempts.drafts", drafts=count("attempts", drafts)))
    would = recompute(record, settings)
    differences = _differences(record, would.certain, "attempts.differs", wording)
    if differences:
        sentences.append(say("attempts.outdated", what=wording.some(differences)))
        sentences.append(say("attempts.recompute" if would.loses_nothing else "attempts.would_lose"))
    # No fault, as scores without any attempt are none: perhaps attempts were archived.
    if more := _differences(record, would.lowered, "attempts.gives", wording):
        sentences.append(say("attempts.outnumbered", what=wording.some(more)))
    return Step(
        "attempts",
        say("attempts?"),
        Verdict.YES if submitted else Verdict.NO,
        " ".join(sentences),
        tuple(
            item
            for content_id, of_content in sorted(by_content.items())
            for item in _of_content(record, content_id, of_content, wording)
        ),
        _recomputation(record) if differences and would.loses_nothing else None,
        is_broken=bool(differences),
        is_fact=True,
    )


def _recomputation(record: LearnerRecord) -> Next:
    """A request that the job does not refuse: it names a content that belongs to the course (rule A2)."""
    nodes = record.course.leaf_nodes
    in_course = nodes.all if isinstance(nodes, LeafNodes) else frozenset[str]()
    content_ids = [attempt.content_id for attempt in record.attempts]
    content_id = next((one for one in (*content_ids, *sorted(in_course)) if one in in_course), content_ids[0])
    return Next(command(Remedy.RECOMPUTE, record.key, content_id), Remedy.RECOMPUTE, content_id)


def _of_content(record: LearnerRecord, content_id: str, of_content: list[Attempt], wording: Wording) -> list[Evidence]:
    """The latest attempts at a content one by one, the best one marked and never left out."""
    say, name = wording.sentences.say, content_name(record, content_id)
    source = f"{_ATTEMPTS}.total_score, total_max_score, last_attempted_on"
    best = max(of_content, key=lambda attempt: attempt.total_score or 0.0)
    in_order = sorted(of_content, key=lambda attempt: (attempt.last_attempted_on or _NEVER, attempt.attempt_id))
    latest = in_order[-MAX_ATTEMPTS:]
    found = []
    for attempt in latest if best in latest else [best, *latest]:
        text = say("attempt", score=f"{attempt.total_score:g}", maximum=f"{attempt.total_max_score or 0:g}")
        if attempt.last_attempted_on is not None:
            text = say("attempt.dated", attempt=text, on=wording.time(attempt.last_attempted_on))
        if attempt is best:
            text = say("attempt.best", attempt=text)
        found.append(Evidence(name, text, source))
    if len(found) < len(of_content):
        found.append(Evidence(name, say("attempt.more", number=len(of_content) - len(found)), source))
    return found


def _differences(record: LearnerRecord, given: Mapping[str, float], sentence: str, wording: Wording) -> list[str]:
    """The scores and counts that readers see and that are not as ``given``, which follows from the attempts."""
    stored = record.aggregates.merged
    return [
        wording.sentences.say(sentence, key=key, stored=shown(stored.get(key)), expected=shown(is_given))
        for key, is_given in sorted(given.items())
        if stored.get(key) != is_given
    ]


@dataclass(frozen=True, slots=True)
class BestScore:
    """The best score of the course in percent, and the content it is of; None if no score counts."""

    percent: float
    content_id: str | None


def percents(record: LearnerRecord, settings: JobSettings) -> dict[str, float] | Refused | Unknown:
    """The percents that count (rule C4), by content."""
    types = record.content_types
    if isinstance(types, Unknown):
        return types
    return value_or_refused(lambda: certificate_rules.percents(record.aggregates.merged, types, settings.certificate))


def best_of(found: dict[str, float]) -> BestScore:
    """The best score of a course from the percents of its contents."""
    best = columns.overall_best_score(found)
    return BestScore(best, next((content_id for content_id, percent in found.items() if percent == best), None))


def best_score(record: LearnerRecord, settings: JobSettings, wording: Wording) -> Step:
    """The best score of the course, and where the score of each content comes from."""
    say = wording.sentences.say
    found = percents(record, settings)
    scored = sorted(contents_of(SCORE, record.aggregates.merged))
    evidence = tuple(_score(record, content_id, settings) for content_id in scored)
    if isinstance(found, dict):
        evidence += tuple(_in_percent(record, content_id, found, wording) for content_id in scored)
    question = say("best_score?")
    if isinstance(found, Unknown):
        sentence = say("best_score.unknown", reason=found.reason)
        return Step("best_score", question, Verdict.UNKNOWN, sentence, evidence)
    if isinstance(found, Refused):
        sentence = say("best_score.refused", reason=found.reason)
        return Step("best_score", question, Verdict.NO, sentence, evidence, is_broken=True)
    best = best_of(found)
    if best.content_id is None:
        return Step("best_score", question, Verdict.NO, say("best_score.none"), evidence, is_fact=True)
    merged = record.aggregates.merged
    sentence = say(
        "best_score.some",
        best=percent_text(best.percent, _limits(record)),
        score=f"{merged[metric_key(SCORE, best.content_id)]:g}",
        maximum=f"{merged.get(metric_key(MAX_SCORE, best.content_id)) or 1:g}",
        content=content_name(record, best.content_id),
    )
    if metric_key(SCORE, best.content_id) not in record.aggregates.aggregates:
        sentence = f"{sentence} {say('best_score.only_old')}"
    return Step("best_score", question, Verdict.YES, sentence, evidence, is_fact=True)


def _limits(record: LearnerRecord) -> list[float]:
    return [limit for template in record.batch.templates.usable for _, limit in template.criteria.score]


def _score(record: LearnerRecord, content_id: str, settings: JobSettings) -> Evidence:
    """Both columns, the one that counts, the type, and whether a content of this type counts."""
    parts = []
    for metric in (SCORE, MAX_SCORE, ATTEMPTS_COUNT):
        key = metric_key(metric, content_id)
        old, new = record.aggregates.agg.get(key), record.aggregates.aggregates.get(key)
        if new is not None:
            parts.append(f"{metric} {new:g}" + ("" if old is None or old == new else f" (agg: {old})"))
        elif old is not None:
            parts.append(f"{metric} {old} (agg)")
    types = record.content_types
    if not isinstance(types, Unknown):
        content_type = types.get(content_id)
        if isinstance(content_type, Refused):
            parts.append(content_type.reason)
        elif content_type in settings.certificate.supported_content_types:
            parts.append(f"{content_type} counts")
        else:
            parts.append(f"{content_type or 'no content type'} does not count")
    column = "aggregates" if metric_key(SCORE, content_id) in record.aggregates.aggregates else "agg"
    return Evidence(content_name(record, content_id), ", ".join(parts), f"{_AGGREGATES}.{column}", is_technical=True)


def _in_percent(record: LearnerRecord, content_id: str, found: dict[str, float], wording: Wording) -> Evidence:
    """The score that counts, for people."""
    say, merged = wording.sentences.say, record.aggregates.merged
    score = f"{merged[metric_key(SCORE, content_id)]:g}"
    if content_id not in found:
        text = say("score.ignored", score=score)
    else:
        percent = percent_text(found[content_id], _limits(record))
        maximum = f"{merged.get(metric_key(MAX_SCORE, content_id)) or 1:g}"
        text = say("score.percent", score=score, maximum=maximum, percent=percent)
    return Evidence(content_name(record, content_id), text, _AGGREGATES)
