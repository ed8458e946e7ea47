"""The certificate requests of the assessment aggregator."""

import json

import pytest

from jobs.assessment_aggregator.rules import (
    Attempt,
    Decision,
)
from tests.support.assessment_rules import (
    decided,
    recompute,
    stored,
    submitted,
)
from tests.support.strategies import T0, JsonObject


class TestCertificateRequest:
    def requests(self, decision: Decision) -> list[JsonObject]:
        return [json.loads(message.value) for result in decision.results for message in result.messages]

    def test_every_event_that_is_not_stale_asks_for_one(self) -> None:
        decision = decided(
            [submitted("a"), submitted("b", time_ms=T0 + 1), submitted("a", time_ms=T0 - 1), recompute()]
        )

        assert [len(result.messages) for result in decision.results] == [1, 1, 0, 1]
        requests = self.requests(decision)
        assert [request["ets"] for request in requests] == [T0, T0 + 1, T0]
        assert len({request["mid"] for request in requests}) == 3
        assert {message.topic for result in decision.results for message in result.messages} == {
            "dev.issue.certificate.request"
        }

    def test_it_names_the_enrolment(self) -> None:
        (request,) = self.requests(decided([submitted()]))

        edata = request["edata"]
        assert (edata["userIds"], edata["courseId"], edata["batchId"]) == (["asha"], "course", "batch")

    @pytest.mark.parametrize(
        ("attempts", "attempt_id"),
        [
            ([], "a"),
            ([stored("b", time_ms=T0 + 1)], "b"),
            ([stored("b", time_ms=T0 - 1), stored("c", time_ms=None)], "a"),
            ([stored("0", time_ms=T0), stored("b", time_ms=T0)], "0"),
            ([stored("0", time_ms=None)], "a"),
            ([stored("b", time_ms=T0 + 1, score=None)], "a"),
            ([stored("b", "do_2")], ""),
            ([stored("b", "do_2", score=None)], "a"),
        ],
    )
    def test_it_names_the_latest_attempt_if_only_one_content_has_a_score(
        self, attempts: list[Attempt], attempt_id: str
    ) -> None:
        (request,) = self.requests(decided([submitted("a", "do_1", time_ms=T0)], attempts))

        assert request["edata"]["attemptId"] == attempt_id

    def test_without_any_score_it_names_none(self) -> None:
        (request,) = self.requests(decided([recompute()]))

        assert request["edata"]["attemptId"] == ""

    def test_its_id_does_not_depend_on_the_company_of_its_event(self) -> None:
        event = submitted("a")
        (alone,) = self.requests(decided([event]))

        together = self.requests(decided([submitted("b"), event, recompute()], [stored("a", time_ms=T0)]))

        assert together[1]["mid"] == alone["mid"]

    def test_ids_never_change(self) -> None:
        of_attempt, of_recompute = self.requests(decided([submitted(), recompute()]))

        # Consumers remember ids: a release that makes others sends every repeat twice.
        assert of_attempt["mid"] == "LP.1715677960002.634b101a-924c-5f48-899e-10410a66643f"
        assert of_recompute["mid"] == "LP.1715677960002.d97f67e0-9b2d-5f18-bf2f-fa5d29c339d3"
