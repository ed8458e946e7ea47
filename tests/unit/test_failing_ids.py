"""When an id that fails is at fault itself, and when the service is down."""

from random import Random

from common.domain.failing_ids import FailingIds

LIMIT = 60.0


class Api:
    """An API, the clock, and what is noted about it."""

    def __init__(self, neutral: str | None = None, neutral_suffices: bool = True) -> None:
        self.now = 0.0
        self.failing = FailingIds[str](LIMIT, lambda: self.now, neutral=neutral, neutral_suffices=neutral_suffices)
        self.is_down = False
        self.bad = {"poison"}
        self.controls: list[str] = []

    def ask(self, request: str, after: float = 0.0, has_timed_out: bool = False) -> float | None:
        """Asks ``after`` so many seconds for a request that is answered, or for ``poison``, which never is."""
        self.now += after
        if self._is_answered(request):
            self.failing.answered(request, is_good=True)
            return None
        controls = self.failing.controls(request)
        bad_control = None
        for control in controls:
            self.controls.append(control)
            if not self._is_answered(control):
                bad_control = control
                break
            self.failing.answered(control, is_good=True)
        return self.failing.failed(request, controls, bad_control, has_timed_out=has_timed_out)

    def poison(self, count: int, after: float = 10.0, has_timed_out: bool = False) -> list[float | None]:
        return [self.ask("poison", after, has_timed_out) for _ in range(count)]

    def _is_answered(self, request: str) -> bool:
        return not self.is_down and request not in self.bad


def test_an_id_that_fails_for_the_limit_while_others_are_answered_is_poison() -> None:
    api = Api()
    for second in range(60):
        api.ask("good", 0.5)
        assert api.ask("poison", 0.5) is None, second
    api.ask("good", 0.5)
    assert api.ask("poison", 0.5) == LIMIT


def test_where_nobody_else_asks_a_request_that_was_answered_before_is_repeated() -> None:
    api = Api()
    api.ask("good")
    assert api.poison(8) == [None] * 7 + [LIMIT + 10]
    assert api.controls == ["good"] * 7


def test_failures_that_take_long_are_not_enough() -> None:
    """Each may be the moment of a service that fails now and then."""
    api = Api()
    api.ask("good")
    assert api.poison(8, LIMIT) == [None] * 7 + [7 * LIMIT]


def test_an_id_that_times_out_needs_twice_the_time() -> None:
    api = Api()
    api.ask("good")
    assert api.poison(13, 10, has_timed_out=True) == [None] * 12 + [2 * LIMIT]


def test_one_timeout_among_answers_with_5xx_needs_twice_the_time_too() -> None:
    api = Api()
    api.ask("good")
    assert [*api.poison(3), *api.poison(1, has_timed_out=True), *api.poison(9)] == [None] * 12 + [2 * LIMIT]


def test_no_id_is_poison_while_nobody_is_answered() -> None:
    api = Api()
    api.ask("good")
    api.is_down = True
    for _ in range(100):
        assert api.ask("poison", 10) is None
        assert api.ask("good") is None


def test_the_time_for_which_the_service_was_down_does_not_count() -> None:
    api = Api()
    api.ask("good")
    api.is_down = True
    assert api.poison(20) == [None] * 20
    api.is_down = False
    api.ask("good")
    # The last failure while the service was down is the first one of these.
    assert api.poison(8) == [None] * 6 + [LIMIT + 10, LIMIT + 20]


def test_a_service_that_answers_again_for_a_moment_proves_nothing() -> None:
    api = Api()
    api.ask("good")
    for _ in range(20):
        api.is_down = False
        api.ask("good", 5)
        api.is_down = True
        assert api.poison(3) == [None] * 3


def test_a_service_that_fails_every_other_time_makes_no_id_poison() -> None:
    """Half of its instances are gone. Others are answered all the time."""
    chance = Random(7)
    refused = 0
    for _ in range(1_000):
        api = Api()
        api.ask("good")
        for _ in range(30):
            api.ask(f"other-{chance.random()}")
            api.now += 10
            if chance.random() < 0.5:
                api.failing.answered("learner", is_good=True)
                break
            controls = api.failing.controls("learner")
            bad_control = controls[0] if controls and chance.random() < 0.5 else None
            refused += api.failing.failed("learner", controls, bad_control) is not None
    assert refused == 0


def test_an_id_that_no_other_was_ever_answered_beside_is_not_poison() -> None:
    api = Api()
    assert api.poison(100) == [None] * 100
    assert api.controls == []


def test_the_first_failure_may_have_controls_too() -> None:
    api = Api()
    api.ask("good")
    assert api.failing.controls("poison", also_first=True) == ("good",)
    assert api.failing.failed("poison", ("good",), None) is None
    assert api.poison(8) == [None] * 6 + [LIMIT + 10, LIMIT + 20]


def test_each_answer_begins_anew() -> None:
    api = Api()
    api.ask("good")
    api.poison(7)
    api.failing.answered("poison", is_good=True)
    assert api.poison(7) == [None] * 7


def test_a_refusal_is_no_good_answer() -> None:
    api = Api()
    for _ in range(20):
        api.failing.answered("forbidden", is_good=False)
        assert api.ask("poison", 10) is None
    assert api.controls == []


def test_poison_is_known_at_once_when_it_is_asked_for_again() -> None:
    api = Api()
    api.ask("good")
    api.poison(8)
    assert api.ask("poison", 10 * LIMIT) == 11 * LIMIT + 10


def test_poison_that_nobody_has_asked_for_lately_must_fail_twice() -> None:
    """It may have been mended, and the API may fail by chance."""
    api = Api()
    api.ask("good")
    api.poison(8)
    assert api.ask("poison", 10 * LIMIT + 1) is None
    assert api.ask("poison", 1) == 11 * LIMIT + 12
    assert api.ask("poison", 10 * LIMIT) == 21 * LIMIT + 12


def test_poison_that_nobody_asks_for_is_forgotten() -> None:
    api = Api()
    api.ask("good")
    api.poison(8)
    assert api.ask("poison", 60 * LIMIT + 1) is None


def test_the_request_that_fails_is_never_its_own_control() -> None:
    api = Api()
    api.ask("other")
    api.failing.answered("poison", is_good=True)
    assert api.poison(8) == [None] * 7 + [LIMIT + 10]
    assert set(api.controls) == {"other"}


def test_a_control_that_fails_is_followed_by_another_one() -> None:
    api = Api()
    api.ask("good")
    api.ask("was good")
    api.bad.add("was good")
    assert api.poison(9) == [None] * 8 + [LIMIT + 10]
    assert api.controls == ["was good"] + ["good"] * 7


def test_a_control_that_no_longer_exists_is_no_control_any_more() -> None:
    """It was answered with 2xx, and is answered with 404 ever since. Nobody else is asked for."""
    api = Api("neutral")
    api.ask("gone")
    found = []
    for _ in range(9):
        api.now += 10
        controls = api.failing.controls("poison")
        for control in controls:
            api.failing.answered(control, is_good=control != "gone")
        bad_control = "gone" if "gone" in controls else None
        found.append(api.failing.failed("poison", controls, bad_control))
    # The first has no controls, and the second finds out.
    assert found == [None] * 8 + [LIMIT + 10]


def test_checks_that_overlap_do_not_bring_back_a_control_that_fails() -> None:
    api = Api()
    api.ask("good")
    api.ask("was good")
    for request in ("poison", "poison too"):
        api.failing.failed(request, (), None)
    controls = {request: api.failing.controls(request) for request in ("poison", "poison too")}
    assert set(controls.values()) == {("was good",)}
    for request, made in controls.items():
        api.failing.failed(request, made, "was good")
    assert api.failing.controls("poison") == api.failing.controls("poison too") == ("good",)


def test_no_more_than_ten_thousand_requests_are_remembered() -> None:
    api = Api()
    api.ask("good")
    api.failing.failed("first", (), None)
    for number in range(9_999):
        api.failing.failed(str(number), (), None)
    assert api.failing.controls("first") == ("good",)
    api.failing.failed("one more", (), None)
    assert api.failing.controls("first") == ()


def test_two_that_fail_do_not_take_each_other_for_a_service_that_is_down() -> None:
    api = Api()
    api.bad.add("poison too")
    api.ask("good")
    found = [(api.ask("poison", 5), api.ask("poison too", 5)) for _ in range(8)]
    assert found == [(None, None)] * 7 + [(LIMIT + 10, LIMIT + 10)]


def test_where_nobody_was_ever_answered_the_neutral_request_is_made() -> None:
    api = Api("neutral")
    assert api.poison(8) == [None] * 7 + [LIMIT + 10]
    assert api.controls == ["neutral"] * 7


def test_beside_a_request_that_was_answered_before_the_neutral_one_is_made() -> None:
    api = Api("neutral")
    api.poison(2)
    api.ask("good", 1)
    api.poison(2)
    assert api.controls == ["neutral", "good", "neutral", "good", "neutral"]


def test_no_id_is_poison_while_only_what_is_cached_is_answered() -> None:
    """The database of the service is gone."""
    api = Api("neutral")
    api.ask("cached")
    api.bad.add("neutral")
    assert api.poison(100) == [None] * 100
    assert api.controls == ["cached", "neutral"] * 99


def test_a_neutral_request_that_does_not_suffice_proves_nothing_alone() -> None:
    api = Api("neutral", neutral_suffices=False)
    assert api.poison(100) == [None] * 100
    assert api.controls == []
    api.ask("good")
    assert api.poison(8)[-1] is not None
    assert api.controls == ["good", "neutral"] * 8


def test_no_id_is_poison_while_a_neutral_request_that_does_not_suffice_is_not_answered() -> None:
    api = Api("neutral", neutral_suffices=False)
    api.ask("cached")
    api.bad.add("neutral")
    assert api.poison(100) == [None] * 100


def test_no_id_is_poison_while_the_neutral_request_is_not_answered_either() -> None:
    api = Api("neutral")
    api.is_down = True
    assert api.poison(100) == [None] * 100
    assert api.controls == ["neutral"] * 99


def test_the_neutral_request_is_never_its_own_control() -> None:
    api = Api("poison")
    assert api.poison(100) == [None] * 100
    assert api.controls == []
