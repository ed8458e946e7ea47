"""What the desk says about a learner, step by step."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from common.domain.aggregates import COMPLETED_COUNT, SCORE, metric_key
from common.domain.events import Refused, Skip
from desk.explanation.requests import GENERATOR_PATIENCE_MS, REQUEST_PATIENCE_MS
from desk.explanation.scores import MAX_ATTEMPTS
from desk.explanation.steps import Verdict
from desk.explanation.wording import Wording, percent_text
from desk.records import AggregatesRow, CertificateMessage, ContentRow, Course, FailedMessage, Search, Unknown
from desk.remedies import Remedy
from desk.sentences import ENGLISH, LANGUAGES
from jobs.activity_aggregate_updater.relations import CourseStatus
from jobs.activity_aggregate_updater.rules import Content
from jobs.assessment_aggregator.rules import Attempt
from tests.support.desk_records import (
    AT_LEAST_75,
    COMPLETED,
    KEY,
    NOW,
    NOW_MS,
    QUIZ,
    VIDEO,
    WORDING,
    aggregates,
    batch,
    completed,
    course,
    explained,
    learner,
    template,
    verdict,
)

FAILED = FailedMessage("dev.telemetry.assess.failed", 0, 7, NOW_MS, "AssessmentAggregator", "event has no ets")
GENERATOR = CertificateMessage("dev.generate.certificate.request", NOW_MS, "Completion")


class TestTheVerdict:
    def test_names_both_numbers_of_the_comparison_that_failed(self) -> None:
        assert verdict(learner(7.4)) == (
            "No certificate: the best score is 74.0 percent, 75 are asked for. Nothing is broken."
        )

    def test_is_yes_if_the_generator_was_asked(self) -> None:
        step = explained(learner(certificate_messages=Search([GENERATOR]))).verdict
        assert step.verdict is Verdict.YES
        assert step.sentence == (
            "Certificate: earned with a best score of 75.0 percent, and requested from the generator on "
            "14 May 2024, 09:12:40."
        )

    def test_is_yes_if_the_certificate_was_issued(self) -> None:
        held = [{"name": "COMPLETION", "identifier": "c-1", "lastIssuedOn": "2024-05-14"}]
        step = explained(learner(issued_certificates=held)).verdict
        assert (step.verdict, step.sentence) == (Verdict.YES, "Certificate: issued on 14 May 2024.")

    def test_is_yes_if_the_certificate_of_a_template_without_criteria_of_the_enrolment_was_issued(self) -> None:
        """The rules do not look at what the learner holds then, and a request would issue it again."""
        held = [{"name": "COMPLETION", "identifier": "c-1", "lastIssuedOn": "2024-05-14"}]
        step = explained(learner(batch=batch(template(AT_LEAST_75)), issued_certificates=held)).verdict
        assert (step.verdict, step.sentence) == (Verdict.YES, "Certificate: issued on 14 May 2024.")
        assert (step.next, step.is_broken) == (None, False)

    @pytest.mark.parametrize(
        "changes",
        [
            {"active": False},
            {"batch": batch(template(AT_LEAST_75)), "score": 6.0},
            {"batch": batch(template({**COMPLETED, **AT_LEAST_75})), "score": 6.0, "status": 1},
            {"batch": batch()},
        ],
        ids=["not active", "score lowered", "course changed", "no template any more"],
    )
    @pytest.mark.parametrize("column", ["issued_certificates", "certificates"])
    def test_is_yes_if_a_certificate_is_held_that_would_not_be_issued_today(
        self, changes: dict[str, Any], column: str
    ) -> None:
        held = [{"name": "Completion", "identifier": "c-1", "lastIssuedOn": "2024-05-14"}]
        step = explained(learner(**{**changes, column: held})).verdict
        assert step.verdict is Verdict.YES
        is_of_batch = "batch" not in changes or changes["batch"].templates.usable
        named = "Certificate" if is_of_batch else "Certificate “Completion”"
        assert step.sentence.startswith(f"{named}: issued on 14 May 2024.")

    def test_names_the_certificate_that_is_there_beside_one_that_is_missing(self) -> None:
        """Perhaps its template was renamed."""
        held = [{"name": "Old name", "identifier": "c-1", "lastIssuedOn": "2024-05-14"}]
        assert verdict(learner(issued_certificates=held)) == (
            "No certificate “Completion” although everything for it is fulfilled. Something is wrong: no request for "
            "it was found. The certificate “Old name” is there, issued on 14 May 2024. Request it again."
        )

    def test_is_unknown_while_the_jobs_may_be_working_on_a_request(self) -> None:
        """Also after somebody has pressed the button: there is none to press again."""
        checks = [replace(GENERATOR, template_name=None, time_ms=NOW_MS - REQUEST_PATIENCE_MS + age) for age in (1, 0)]
        recent, old = (explained(learner(certificate_messages=Search([check]))).verdict for check in checks)
        assert (recent.verdict, recent.is_broken, recent.next) == (Verdict.UNKNOWN, False, None)
        assert recent.sentence.startswith("Everything is fulfilled. A check for the certificate was requested on")
        assert (old.verdict, old.is_broken) == (Verdict.NO, True)

    def test_is_unknown_if_older_requests_may_still_lead_to_a_certificate(self) -> None:
        """The search ends at a bound, and a request before it may wait in the generator."""
        messages: list[Search[CertificateMessage]] = [Search((), NOW_MS - ago) for ago in (1, GENERATOR_PATIENCE_MS)]
        completed_on = NOW - timedelta(days=9)
        records = [learner(certificate_messages=found, completed_on=completed_on) for found in messages]
        recent, old = (explained(record).verdict for record in records)
        assert (recent.verdict, recent.is_broken, recent.next) == (Verdict.UNKNOWN, False, None)
        assert "the desk has looked at requests since 14 May 2024, 09:12:39 only" in recent.sentence
        assert (old.verdict, old.is_broken) == (Verdict.NO, True)
        # Whatever was requested was requested after the completion.
        assert explained(learner(certificate_messages=messages[0])).verdict.is_broken

    def test_offers_nothing_that_would_issue_a_certificate_again(self) -> None:
        """A template without criteria of the enrolment: each request issues its certificate (rule C3)."""
        templates = batch(template(AT_LEAST_75, "Merit"), template(COMPLETED, "Distinction"))
        merit = [{"name": "merit", "identifier": "c-1"}]
        explanation = explained(learner(batch=templates, issued_certificates=merit, aggregates=aggregates(7.0)))
        assert [step.next for step in (explanation.verdict, explanation.step("attempts"))] == [None, None]
        again = ENGLISH["issued_again"].format(names="“Merit”")
        assert explanation.verdict.sentence.endswith(again)
        assert explanation.verdict.tell == ENGLISH["tell.broken"]
        assert explanation.step("attempts").sentence.endswith(again)

    @pytest.mark.parametrize(
        "changes",
        [
            {"certificates": [{"name": "Another name"}]},
            {"certificate_messages": Search([replace(GENERATOR, template_name="Merit")])},
        ],
        ids=["in the old column", "requested"],
    )
    def test_a_certificate_is_issued_again_also_if_it_is(self, changes: dict[str, Any]) -> None:
        explanation = explained(
            learner(batch=batch(template(AT_LEAST_75, "Merit")), aggregates=aggregates(7.0), **changes)
        )
        step = explanation.step("attempts")
        assert (step.is_broken, step.next) == (True, None)

    def test_a_sync_that_completes_the_enrolment_issues_again_too(self) -> None:
        merit = [{"name": "merit", "identifier": "c-1"}]
        merit_only = batch(template(AT_LEAST_75, "Merit"))
        for held, remedy in (merit, None), ([], Remedy.SYNC):
            record = learner(batch=merit_only, issued_certificates=held, status=1, completed_on=None)
            step = explained(record).step("progress")
            assert step.is_broken
            assert (step.next and step.next.remedy) == remedy

    def test_of_a_certificate_in_the_old_column_is_none_missing(self) -> None:
        """Its name may be another one. The check and the page of the course say the same."""
        step = explained(learner(certificates=[{"name": "Another name"}])).verdict
        assert (step.verdict, step.next, step.is_broken) == (Verdict.YES, None, False)

    def test_of_a_request_names_no_score_if_the_template_asks_for_none(self) -> None:
        record = learner(batch=batch(template(COMPLETED)), certificate_messages=Search([GENERATOR]))
        assert verdict(record) == "Certificate: earned, and requested from the generator on 14 May 2024, 09:12:40."

    @pytest.mark.parametrize("issued", [[], [{"name": "Merit", "identifier": "c-1"}]])
    def test_is_no_if_one_certificate_of_several_was_not_requested(self, issued: list[dict[str, str]]) -> None:
        record = learner(
            batch=batch(template(COMPLETED, "Merit"), template(AT_LEAST_75, "Distinction")),
            certificate_messages=Search([replace(GENERATOR, template_name="Merit")]),
            issued_certificates=issued,
        )
        step = explained(record).verdict
        assert (step.verdict, step.is_broken) == (Verdict.NO, True)
        assert step.sentence.startswith("No certificate “Distinction” although everything for it is fulfilled.")
        assert step.next is not None
        assert step.next.remedy is Remedy.CERTIFICATE

    def test_is_yes_if_all_of_several_were_requested(self) -> None:
        requests = [replace(GENERATOR, template_name=name) for name in ("Distinction", "Merit")]
        record = learner(
            batch=batch(template(COMPLETED, "Merit"), template(AT_LEAST_75, "Distinction")),
            certificate_messages=Search(requests),
        )
        assert explained(record).verdict.verdict is Verdict.YES

    def test_shows_a_date_of_a_certificate_as_it_is_stored_if_it_cannot_be_read(self) -> None:
        held = [{"name": "Completion", "identifier": "c-1", "lastIssuedOn": "in May"}]
        assert verdict(learner(issued_certificates=held)) == "Certificate: issued on in May."

    def test_asks_for_a_new_request_if_everything_is_fulfilled(self) -> None:
        step = explained(learner()).verdict
        assert step.sentence == f"{ENGLISH['verdict.fulfilled']} Request it again."
        assert "Something is wrong: no request for it was found." in step.sentence
        assert step.next is not None
        assert step.next.remedy is Remedy.CERTIFICATE
        assert step.next.command == "python -m desk send certificate --user asha --course do_course --batch batch"
        assert step.is_broken

    def test_says_in_the_same_breath_that_an_event_has_failed(self) -> None:
        step = explained(learner(7.4, failed=Search([FAILED]))).verdict
        assert step.sentence == (
            "No certificate: the best score is 74.0 percent, 75 are asked for. Something is wrong: 1 event of the "
            "learner could not be processed. See “Did all events of the learner get through?”"
        )
        assert (step.verdict, step.is_broken, step.mark) == (Verdict.NO, True, "fault")
        assert step.tell == ENGLISH["tell.broken"]

    @pytest.mark.parametrize("held", [None, [{"name": "Completion", "identifier": "c-1"}]])
    def test_of_a_certificate_says_that_an_event_has_failed_too(self, held: Any) -> None:
        record = learner(failed=Search([FAILED]), certificate_messages=Search([GENERATOR]), issued_certificates=held)
        step = explained(record).verdict
        assert (step.verdict, step.is_broken) == (Verdict.YES, True)
        assert "Something is wrong: 1 event of the learner could not be processed." in step.sentence

    def test_does_not_say_that_a_request_was_lost_if_it_cannot_be_looked_for(self) -> None:
        step = explained(learner(certificate_messages=Unknown("no broker"), failed=Unknown("no broker"))).verdict
        assert (step.verdict, step.is_broken, step.next) == (Verdict.UNKNOWN, False, None)

    def test_does_not_say_that_nothing_is_broken_if_failed_events_cannot_be_looked_for(self) -> None:
        step = explained(learner(7.4, failed=Unknown("no broker"))).verdict
        assert "Nothing is broken." not in step.sentence
        assert "Whether something is wrong is not known" in step.sentence

    @pytest.mark.parametrize(
        ("changes", "tell"),
        [
            (
                {"score": 7.4},
                "There is no certificate yet: the best score is 74.0 percent, 75 are asked for. Please try the quiz "
                "again.",
            ),
            ({"enrolment": None}, "You are not enrolled in this batch. Which batch did you join?"),
            ({"batch": batch()}, "This batch gives no certificate."),
            ({}, ENGLISH["tell.fulfilled"]),
            ({"certificate_messages": Search([GENERATOR])}, ENGLISH["tell.requested"]),
            ({"user": Unknown("no answer")}, ENGLISH["tell.unknown"]),
        ],
    )
    def test_has_a_sentence_for_the_learner(self, changes: dict[str, Any], tell: str) -> None:
        assert explained(learner(**changes)).verdict.tell == tell

    def test_names_what_is_broken(self) -> None:
        record = learner(7.5, aggregates=aggregates(7.0))
        assert verdict(record) == (
            "No certificate: the best score is 70.0 percent, 75 are asked for. Something is wrong: the stored best "
            "scores do not match the attempts. See “Which attempts are stored?”"
        )

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"enrolment": None}, "No certificate: the learner is not enrolled in this batch. Nothing is broken."),
            ({"active": False}, "No certificate: the enrolment is not active. Nothing is broken."),
            ({"batch": batch()}, "No certificate: the batch has no certificate template. Nothing is broken."),
            (
                {"batch": replace(batch(), exists=False)},
                "No certificate: there is no such batch of this course. Nothing is broken.",
            ),
            (
                {"user": Skip("blocked_user")},
                "No certificate: the account of the learner is blocked. Nothing is broken.",
            ),
            (
                {"user": Unknown("user API did not answer")},
                "It cannot be said: user API did not answer.",
            ),
            (
                {"content_types": Unknown("Redis did not answer")},
                "It cannot be said: Redis did not answer.",
            ),
            (
                {"batch": batch(template({"user": {"rootOrgId": "org-2"}}))},
                'No certificate: rootOrgId is (hidden), "org-2" is asked for. Nothing is broken.',
            ),
        ],
    )
    def test_says_why_not(self, changes: dict[str, Any], sentence: str) -> None:
        assert verdict(learner(**changes)) == sentence

    def test_of_an_unfinished_course_counts_what_is_completed(self) -> None:
        record = learner(
            status=1,
            progress=1,
            completed_on=None,
            content_status={VIDEO: 2},
            contents=[completed(VIDEO)],
            aggregates=aggregates(7.5, 1),
        )
        assert verdict(record) == "No certificate: 1 of 2 contents is completed. Nothing is broken."

    def test_of_a_finished_course_with_an_old_status_offers_the_sync(self) -> None:
        step = explained(learner(status=1, completed_on=None)).verdict
        assert step.sentence.startswith(
            "No certificate: the course is completed, but the stored status does not say so."
        )
        assert step.next is not None
        assert step.next.remedy is Remedy.SYNC

    def test_of_a_template_with_a_fault_quotes_the_fault(self) -> None:
        record = learner(batch=batch(template({})))
        assert "Invalid template for batch : batch" in verdict(record)
        assert explained(record).verdict.is_broken


class TestProgress:
    def test_names_the_missing_contents(self) -> None:
        record = learner(
            status=1, progress=1, content_status={QUIZ: 2}, contents=[completed(QUIZ)], aggregates=aggregates(7.5, 1)
        )
        step = explained(record).step("progress")
        assert step.verdict is Verdict.NO
        assert step.sentence == "1 of 2 contents is completed. Missing: Leaves (do_video)."
        assert ("Leaves (do_video)", "not opened") in [(item.what, item.value) for item in step.evidence]

    def test_does_not_ask_for_optional_contents(self) -> None:
        record = learner(course=course(VIDEO, QUIZ, "do_extra", optional=("do_extra",)))
        assert explained(record).step("progress").verdict is Verdict.YES

    def test_says_which_stored_values_are_wrong(self) -> None:
        record = learner(status=1, progress=1, completed_on=None, aggregates=aggregates(7.5, 1))
        step = explained(record).step("progress")
        assert step.is_broken
        assert "status is 1, 2 is right" in step.sentence
        assert "progress is 1, 2 is right" in step.sentence
        assert "completedCount is 1, 2 is right" in step.sentence
        assert step.next is not None
        assert step.next.remedy is Remedy.SYNC

    def test_of_a_content_that_was_opened_since_the_last_completion_is_no_fault(self) -> None:
        record = learner(
            status=1,
            progress=1,
            completed_on=None,
            content_status={VIDEO: 2},
            contents=[completed(VIDEO), ContentRow(Content(QUIZ, 1))],
            aggregates=aggregates(7.5, 1),
        )
        assert not explained(record).step("progress").is_broken
        assert verdict(record).endswith("Nothing is broken.")

    def test_before_the_first_completion_nothing_stored_is_wrong(self) -> None:
        record = learner(
            status=0,
            progress=None,
            completed_on=None,
            content_status=None,
            contents=[ContentRow(Content(QUIZ, 1))],
            aggregates=AggregatesRow(),
            attempts=[],
        )
        assert not explained(record).step("progress").is_broken
        assert verdict(record).endswith("Nothing is broken.")

    def test_only_completed_contents_are_lacking_in_the_row(self) -> None:
        record = learner(
            course=course(VIDEO, QUIZ, "do_3"),
            status=1,
            completed_on=None,
            content_status={VIDEO: 2},
            contents=[completed(VIDEO), completed(QUIZ), ContentRow(Content("do_3", 1))],
        )
        assert "contentstatus lacks 1 content." in explained(record).step("progress").sentence

    def test_of_a_course_that_has_grown_since_is_still_completed(self) -> None:
        step = explained(learner(course=course(VIDEO, QUIZ, "do_new"))).step("progress")
        assert step.verdict is Verdict.YES
        assert step.sentence == (
            "The course was completed on 14 May 2024. It has changed since then: 2 of 3 contents are completed now."
        )
        assert not step.is_broken

    def test_counts_a_content_that_the_job_has_counted_before_the_api_wrote_its_status(self) -> None:
        record = learner(contents=[completed(VIDEO), replace(completed(QUIZ), content=Content(QUIZ, None, 1, 1, 1, 1))])
        assert explained(record).step("progress").verdict is Verdict.YES

    def test_of_somebody_who_has_opened_nothing(self) -> None:
        record = learner(
            status=0, progress=None, completed_on=None, content_status=None, contents=[], aggregates=AggregatesRow()
        )
        step = explained(record).step("progress")
        assert step.sentence == "0 of 2 contents are completed. Missing: Quiz 1 (do_quiz), Leaves (do_video)."
        assert not step.is_broken

    @pytest.mark.parametrize(
        ("found", "verdict", "reason"),
        [
            (
                Course(KEY.course_id, "Botany", None, CourseStatus("Retired")),
                Verdict.NO,
                "The course cannot be used: course do_course is retired and has no leaf nodes.",
            ),
            (
                Course(KEY.course_id, "Botany", Unknown("Redis is down")),
                Verdict.UNKNOWN,
                "The contents of the course could not be read: Redis is down.",
            ),
        ],
    )
    def test_cannot_be_told_without_leaf_nodes(self, found: Course, verdict: Verdict, reason: str) -> None:
        explanation = explained(learner(course=found))
        assert explanation.step("leaf_nodes").verdict is verdict
        assert explanation.step("leaf_nodes").sentence == reason
        assert explanation.step("progress").verdict is Verdict.UNKNOWN

    @pytest.mark.parametrize(
        ("status", "verdict", "sentence", "is_broken"),
        [
            (
                Unknown("no answer"),
                Verdict.UNKNOWN,
                "The contents of the course could not be read: no answer.",
                False,
            ),
            (
                Refused("search_api", "search API answered 403"),
                Verdict.NO,
                "The course cannot be used: search API answered 403.",
                True,
            ),
        ],
    )
    def test_of_a_course_without_leaf_nodes_says_why_its_status_is_not_known(
        self, status: Unknown | Refused, verdict: Verdict, sentence: str, is_broken: bool
    ) -> None:
        step = explained(learner(course=Course(KEY.course_id, "Botany", None, status))).step("leaf_nodes")
        assert (step.verdict, step.sentence, step.is_broken) == (verdict, sentence, is_broken)


class TestScores:
    def test_only_the_old_column_is_named(self) -> None:
        key = metric_key(SCORE, QUIZ)
        record = learner(attempts=[], aggregates=AggregatesRow({key: 8, f"max_{key}": 10, COMPLETED_COUNT: 2}))
        step = explained(record).step("best_score")
        assert step.sentence == (
            "The best score of the course is 80.0 percent: 8 of 10 in Quiz 1 (do_quiz). It is known only from the old "
            "column, which holds whole numbers."
        )
        assert step.evidence[0].value == "score 8 (agg), max_score 10 (agg), SelfAssess counts"

    def test_a_content_of_another_type_does_not_count(self) -> None:
        step = explained(learner(content_types={QUIZ: "Resource"})).step("best_score")
        assert step.sentence == "There is no score that counts, so the best score of the course is 0."
        assert step.evidence[0].value.endswith("Resource does not count")

    def test_drafts_are_told_apart(self) -> None:
        record = learner(attempts=[Attempt(QUIZ, "a", NOW, NOW, 7.5, 10.0), Attempt(QUIZ, "b", None, NOW, None, None)])
        step = explained(record).step("attempts")
        assert step.sentence == "1 attempt at 1 content. 1 attempt saved but not submitted."
        assert step.mark == "fact"
        assert not step.is_broken

    def test_attempts_are_shown_one_by_one_with_the_best_marked(self) -> None:
        first = Attempt(QUIZ, "a", NOW - timedelta(days=1), NOW, 7.5, 10.0)
        step = explained(learner(attempts=[Attempt(QUIZ, "b", NOW, NOW, 6.0, 10.0), first])).step("attempts")
        assert [item.value for item in step.evidence] == [
            "7.5 of 10 on 13 May 2024, 09:12:40 (the best)",
            "6 of 10 on 14 May 2024, 09:12:40",
        ]

    def test_of_many_attempts_the_latest_and_the_best_are_shown(self) -> None:
        many = [
            Attempt(QUIZ, f"a-{number:02}", NOW + timedelta(minutes=number), NOW, 7.5 - number / 10, 10.0)
            for number in range(MAX_ATTEMPTS + 5)
        ]
        values = [item.value for item in explained(learner(attempts=many)).step("attempts").evidence]
        assert values[0] == "7.5 of 10 on 14 May 2024, 09:12:40 (the best)"
        assert (len(values), values[-1]) == (MAX_ATTEMPTS + 2, "and 4 earlier ones")

    @pytest.mark.parametrize("drafts", [[], [Attempt(QUIZ, "b", None, NOW, None, None)]], ids=["none", "a draft"])
    def test_scores_whose_attempts_were_all_archived_are_no_fault(self, drafts: list[Attempt]) -> None:
        """A recompute would remove every score."""
        step = explained(learner(attempts=drafts)).step("attempts")
        assert (step.is_broken, step.next) == (False, None)
        assert "is right" not in step.sentence

    @pytest.mark.parametrize("stored", [7.5, 7.0])
    def test_no_recomputation_is_offered_that_would_remove_the_score_of_an_archived_attempt(
        self, stored: float
    ) -> None:
        row = aggregates(stored)
        archived = replace(row, aggregates={**row.aggregates, "score:do_gone": 9.0})
        record = learner(7.5, aggregates=archived, content_types={QUIZ: "SelfAssess", "do_gone": "SelfAssess"})
        step = explained(record).step("attempts")
        assert (step.is_broken, step.next) == (stored != 7.5, None)
        assert "do_gone" not in step.sentence
        assert ("A recomputation would also lower or remove" in step.sentence) == step.is_broken

    def test_a_score_above_those_of_the_stored_attempts_is_no_fault(self) -> None:
        """Perhaps the best attempt was archived."""
        step = explained(learner(7.5, aggregates=aggregates(9.5))).step("attempts")
        assert (step.is_broken, step.next) == (False, None)
        assert step.sentence == (
            "1 attempt at 1 content. More is stored than these attempts give: score:do_quiz is 9.5, they give 7.5. "
            "Perhaps older attempts were archived."
        )

    @pytest.mark.parametrize("trace", ["attempts_count:do_other", "agg", "agg_details"])
    def test_no_recomputation_is_offered_that_would_lower_what_comes_from_an_archived_attempt(self, trace: str) -> None:
        attempts = [Attempt(content_id, "a", NOW, NOW, 7.5, 10.0) for content_id in (QUIZ, "do_other")]
        row = aggregates(7.0)
        of_other = {"score:do_other": 7.5, "max_score:do_other": 10.0, "attempts_count:do_other": 1.0}
        match trace:
            case "agg":
                del of_other["score:do_other"]
                row = replace(row, agg={"score:do_other": 9})
            case "agg_details":
                gone = {"attempt_id": "gone", "content_id": "do_other", "score": 7.0, "max_score": 10.0}
                row = replace(row, details=["no JSON", json.dumps(gone)])
            case _:
                of_other[trace] = 2.0
        row = replace(row, aggregates={**row.aggregates, **of_other})
        types = dict.fromkeys((QUIZ, "do_other"), "SelfAssess")
        step = explained(learner(attempts=attempts, aggregates=row, content_types=types)).step("attempts")
        assert (step.is_broken, step.next) == (True, None)
        assert "score:do_quiz is 7.0, 7.5 is right. A recomputation would also lower" in step.sentence

    def test_a_score_that_is_right_in_the_old_column_alone_is_no_fault(self) -> None:
        """Every reader merges the columns. Before a back-fill this is so for all learners of the Scala jobs."""
        row = AggregatesRow(agg={"score:do_quiz": 8, "max_score:do_quiz": 10, "attempts_count:do_quiz": 1})
        step = explained(learner(8.0, aggregates=row)).step("attempts")
        assert (step.is_broken, step.next) == (False, None)

    def test_what_is_more_in_the_old_column_is_named_with_its_value(self) -> None:
        row = AggregatesRow(agg={"score:do_quiz": 9, "max_score:do_quiz": 20, "attempts_count:do_quiz": 1})
        step = explained(learner(7.5, aggregates=row)).step("attempts")
        assert "More is stored than these attempts give: score:do_quiz is 9.0, they give 7.5." in step.sentence

    def test_a_recomputation_that_removes_nothing_is_offered(self) -> None:
        step = explained(learner(7.5, aggregates=aggregates(7.0))).step("attempts")
        assert step.sentence.endswith("score:do_quiz is 7.0, 7.5 is right. A recomputation puts it right.")
        assert step.next is not None
        assert step.next.remedy is Remedy.RECOMPUTE

    def test_a_score_that_cannot_be_had_is_a_fault(self) -> None:
        refused = Refused("content_api", "content read API answered 403 for do_quiz")
        explanation = explained(learner(content_types={QUIZ: refused}))
        assert explanation.step("best_score").is_broken
        assert explanation.step("decision").sentence == (
            "It cannot be decided: content read API answered 403 for do_quiz."
        )

    @pytest.mark.parametrize(
        ("percent", "limits", "text"),
        [
            (74.0, [75], "74.0"),
            (74.96, [75], "74.96"),
            (74.999999, [75], "74.999999"),
            (75.04, [75], "75.04"),
            (75.0, [75], "75.0"),
            (33.333333, [], "33.3"),
        ],
    )
    def test_a_percentage_is_never_rounded_across_the_limit(
        self, percent: float, limits: list[float], text: str
    ) -> None:
        assert percent_text(percent, limits) == text

    def test_a_percentage_that_nine_decimals_would_round_to_the_limit_has_all_its_digits(self) -> None:
        assert percent_text(74.9999999999, [75]) == "74.9999999999"
        assert percent_text(75.0000000001, [75]) == "75.0000000001"


class TestOtherSteps:
    def test_templates_are_told_in_words(self) -> None:
        step = explained(learner()).step("templates")
        assert step.sentence == "“Completion” for completing the course and a best score of at least 75 percent."

    def test_each_template_has_a_decision(self) -> None:
        record = learner(7.4, batch=batch(template(COMPLETED, "Merit"), template(AT_LEAST_75, "Distinction")))
        steps = [step for step in explained(record).steps if step.name == "decision"]
        assert [(step.question, step.verdict) for step in steps] == [
            ("Has the learner earned “Merit”?", Verdict.YES),
            ("Has the learner earned “Distinction”?", Verdict.NO),
        ]

    def test_kafka_that_cannot_be_read_is_told(self) -> None:
        step = explained(learner(failed=Unknown("no broker"))).step("requests")
        assert (step.verdict, step.sentence) == (
            Verdict.UNKNOWN,
            "The desk could not see whether an event has failed: no broker.",
        )

    def test_a_search_that_ended_at_its_bound_says_since_when(self) -> None:
        step = explained(learner(failed=Search([], NOW_MS))).step("requests")
        assert step.sentence == "No event of the learner has failed since 14 May 2024, 09:12:40."

    def test_a_failed_message_of_somebody_else_has_no_command(self) -> None:
        step = explained(learner(failed=Search([replace(FAILED, job="", reason="")]))).step("requests")
        assert (step.verdict, step.is_broken, step.next) == (Verdict.NO, True, None)

    def test_a_time_that_no_calendar_has_is_shown_as_its_last_day(self) -> None:
        """Whoever sends a message may give its time in us."""
        assert WORDING.time(NOW_MS * 1000) == "30 December 9999, 23:59:59"
        assert WORDING.day(-NOW_MS * 1000) == "2 January 1"
        odd = replace(FAILED, time_ms=NOW_MS * 1000)
        assert "30 December 9999" in explained(learner(failed=Search([odd]))).step("requests").sentence

    @pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
    @pytest.mark.parametrize("time_ms", [NOW_MS * 1000, -NOW_MS * 1000])
    def test_such_a_time_can_be_shown_in_every_zone(self, zone: str, time_ms: int) -> None:
        assert replace(WORDING, zone=ZoneInfo(zone)).time(time_ms)

    def test_the_latest_check_is_told_if_the_generator_was_not_asked(self) -> None:
        checks = [CertificateMessage("dev.issue.certificate.request", NOW_MS + ms) for ms in (0, 1000)]
        step = explained(learner(7.4, certificate_messages=Search(checks))).step("requests")
        assert step.sentence == (
            "No event of the learner has failed. A check for a certificate was last requested on 14 May 2024, 09:12:41."
        )
        assert [(item.what, item.value, item.source) for item in step.evidence] == [
            (f"14 May 2024, 09:12:{second}", "check for a certificate requested", "dev.issue.certificate.request")
            for second in (40, 41)
        ]

    def test_an_event_that_failed_is_told_without_its_technical_reason(self) -> None:
        step = explained(learner(failed=Search([FAILED]))).step("requests")
        assert step.sentence.startswith(
            "1 event of the learner could not be processed. The latest is a quiz result, received on 14 May 2024, "
            "09:12:40. The learner did nothing wrong."
        )
        assert FAILED.reason not in step.sentence
        assert (step.evidence[0].value, step.evidence[0].is_technical) == (FAILED.reason, True)

    def test_an_attempt_that_the_api_refused_is_a_quiz_result_that_a_replay_sends(self) -> None:
        step = explained(learner(failed=Search([replace(FAILED, job="AssessmentApi")]))).step("requests")
        assert "The latest is a quiz result" in step.sentence
        assert step.next == explained(learner(failed=Search([FAILED]))).step("requests").next is not None

    def test_only_conditions_have_a_tick_or_a_cross(self) -> None:
        marks = [step.mark for step in explained(learner(7.4)).steps]
        assert marks == ["yes", "fact", "yes", "fact", "fact", "fact", "no", "yes", "no"]

    def test_a_phantom_is_not_enrolled(self) -> None:
        step = explained(learner(active=None, status=None)).step("enrolment")
        assert step.verdict is Verdict.NO
        assert "exists only because a content was opened" in step.sentence

    def test_fields_of_users_are_hidden_unless_names_are_shown(self) -> None:
        record = learner(batch=batch(template({"user": {"firstName": "Ravi"}})))
        hidden = [item.value for item in explained(record).step("decision").evidence]
        shown = explained(record, wording=Wording(LANGUAGES["en"], WORDING.zone, show_names=True)).step("decision")
        assert hidden == ['firstName (hidden) = "Ravi" is false']
        assert [item.value for item in shown.evidence] == ['firstName Asha = "Ravi" is false']

    def test_the_document_has_every_step(self) -> None:
        documents = [step.as_json() for step in explained(learner(7.4)).steps]
        assert [document["step"] for document in documents] == [
            "enrolment",
            "leaf_nodes",
            "progress",
            "attempts",
            "best_score",
            "templates",
            "decision",
            "requests",
            "verdict",
        ]
        assert documents[6]["evidence"][1] == {
            "what": "best score",
            "value": "74.0 >= 75 is false",
            "source": "best score, user_activity_agg",
        }
