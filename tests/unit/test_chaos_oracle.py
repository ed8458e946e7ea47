"""The oracle of the chaos runs notices each kind of loss; that the jobs can be broken so is shown by `--sabotage`."""

from collections.abc import Callable

import pytest

from chaos import oracle
from chaos.load import ATTEMPTS, COMPLETIONS, FAILED_TOPIC, SYNCS, Load
from chaos.oracle import Kind, Observed, Sent, compare

EVENTS = 3_000


@pytest.fixture(scope="module")
def load() -> Load:
    load = Load(7)
    for _ in range(EVENTS):
        load.next_event()
    return load


@pytest.fixture
def observed(load: Load) -> Observed:
    """Everything as it must be."""
    requests = {
        Sent(user_id, (number,), f"{user_id}-{number}")
        for (_, user_id), count in oracle._expected_requests(load).items()
        for number in range(int(count))
    }
    return Observed(
        numbers=oracle._expected_numbers(load),
        audits={Sent(user_id, about, f"{user_id}-{about}") for user_id, about in oracle._expected_audits(load)},
        requests=requests,
        certificates={
            Sent(learner.user_id, (1,), learner.user_id) for learner in load.learners if learner.gets_certificate
        },
        failed={topic: set(values) for topic, values in load.failed.items()} | {"issue.certificate.failed": set()},
    )


def test_nothing_is_wrong(load: Load, observed: Observed) -> None:
    assert compare(load, observed) == []


def test_the_load_has_everything(load: Load) -> None:
    certified = sum(learner.gets_certificate for learner in load.learners)
    assert 0 < certified < sum(learner.completed_at is not None for learner in load.learners) < len(load.learners)
    assert max(load.produced.values()) > 1
    assert all(load.failed.values())
    assert {event.topic for event in load._recent} == {ATTEMPTS, COMPLETIONS, SYNCS}
    assert load.failed.keys() == set(FAILED_TOPIC.values())


def test_the_same_seed_is_the_same_load() -> None:
    first, second = Load(1), Load(1)
    assert [first.next_event() for _ in range(500)] == [second.next_event() for _ in range(500)]


def _lose_a_row(observed: Observed) -> None:
    del observed.numbers[next(key for key in observed.numbers if key[0] == "attempt")]


def _lower_a_score(observed: Observed) -> None:
    observed.numbers[next(key for key in observed.numbers if key[-1].startswith("score:"))] -= 0.25


def _count_twice(observed: Observed) -> None:
    observed.numbers[next(key for key in observed.numbers if key[-1] == "viewcount")] += 1


def _add_a_row(observed: Observed) -> None:
    observed.numbers["content", "somebody", "do_1", "viewcount"] = 1


def _lose_an_audit(observed: Observed) -> None:
    observed.audits.pop()


def _send_an_audit_with_another_id(observed: Observed) -> None:
    observed.audits.add(next(iter(observed.audits))._replace(message_id="another"))


def _lose_a_request(observed: Observed) -> None:
    observed.requests.pop()


def _send_a_request_with_another_id(observed: Observed) -> None:
    observed.requests.add(next(iter(observed.requests))._replace(message_id="another"))


def _lose_a_failed_event(observed: Observed) -> None:
    observed.failed[FAILED_TOPIC["telemetry.assess"]].pop()


def _refuse_a_good_event(observed: Observed) -> None:
    observed.failed["issue.certificate.failed"].add(b"{}")


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (_lose_a_row, Kind.LOST),
        (_lower_a_score, Kind.LOST),
        (_count_twice, Kind.TWICE),
        (_add_a_row, Kind.TWICE),
        (_lose_an_audit, Kind.LOST),
        (_send_an_audit_with_another_id, Kind.TWICE),
        (_lose_a_request, Kind.LOST),
        (_send_a_request_with_another_id, Kind.TWICE),
        (_lose_a_failed_event, Kind.LOST),
        (_refuse_a_good_event, Kind.TWICE),
    ],
)
def test_every_harm_is_noticed(load: Load, observed: Observed, harm: Callable[[Observed], None], kind: Kind) -> None:
    harm(observed)
    assert [problem.kind for problem in compare(load, observed)] == [kind]


def test_certificates(load: Load, observed: Observed) -> None:
    lost = observed.certificates.pop()
    assert [problem.kind for problem in compare(load, observed)] == [Kind.MISSING_CERTIFICATE]
    wrong = next(learner.user_id for learner in load.learners if not learner.gets_certificate)
    observed.certificates |= {lost, Sent(wrong, (1,), "wrong")}
    assert [problem.kind for problem in compare(load, observed)] == [Kind.WRONG_CERTIFICATE]
