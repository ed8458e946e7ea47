"""When an id that fails is at fault itself, and when the service is down."""

from common.servers.failing_ids import FailingIds

LIMIT = 60.0


class Api:
    """An API, the clock, and what is noted about it."""

    def __init__(self, neutral: str | None = None) -> None:
        self.now = 0.0
        self.failing = FailingIds[str](LIMIT, lambda: self.now, neutral)
        self.is_down = False
        self.controls: list[str] = []

    def ask(self, request: str, after: float = 0.0) -> float | None:
        """Asks ``after`` so many seconds for a request that is answered, or for ``poison``, which never is."""
        self.now += after
        if not self.is_down and request != "poison":
            self.failing.answered(request, is_good=True)
            return None
        control = self.failing.control(request)
        if control is not None:
            self.controls.append(control)
            if not self.is_down:
                self.failing.answered(control, is_good=True)
        return self.failing.failed(request)


def test_an_id_that_fails_for_the_limit_while_others_are_answered_is_poison() -> None:
    api = Api()
    for second in range(60):
        api.ask("good", 0.5)
        assert api.ask("poison", 0.5) is None, second
    api.ask("good", 0.5)
    assert api.ask("poison", 0.5) == LIMIT
    # The answers of others were enough.
    assert api.controls == []


def test_where_nobody_else_asks_a_request_that_was_answered_before_is_repeated() -> None:
    api = Api()
    api.ask("good")
    results = [api.ask("poison", 10) for _ in range(7)]
    assert results == [None] * 6 + [LIMIT]
    assert api.controls == ["good"] * 6


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
    assert [api.ask("poison", 10) for _ in range(20)] == [None] * 20
    api.is_down = False
    api.ask("good")
    # The first of these is the first failure while others are answered.
    assert [api.ask("poison", 10) for _ in range(7)] == [None] * 5 + [LIMIT, LIMIT + 10]


def test_a_service_that_answers_again_for_a_moment_proves_nothing() -> None:
    api = Api()
    api.ask("good")
    for _ in range(20):
        api.is_down = False
        api.ask("good", 5)
        api.is_down = True
        assert [api.ask("poison", 10) for _ in range(3)] == [None] * 3


def test_an_id_that_no_other_was_ever_answered_beside_is_not_poison() -> None:
    api = Api()
    assert [api.ask("poison", 10) for _ in range(100)] == [None] * 100
    assert api.controls == []


def test_each_answer_begins_anew() -> None:
    api = Api()
    api.ask("good")
    for _ in range(5):
        api.ask("poison", 10)
    api.failing.answered("poison", is_good=True)
    assert [api.ask("poison", 10) for _ in range(6)] == [None] * 6


def test_a_refusal_is_no_good_answer() -> None:
    api = Api()
    for _ in range(20):
        api.failing.answered("forbidden", is_good=False)
        assert api.ask("poison", 10) is None


def test_poison_is_known_at_once_when_it_is_asked_for_again() -> None:
    api = Api()
    api.ask("good")
    for _ in range(7):
        api.ask("poison", 10)
    assert api.ask("poison", 300) == LIMIT + 300


def test_poison_that_nobody_asks_for_is_forgotten() -> None:
    api = Api()
    api.ask("good")
    for _ in range(7):
        api.ask("poison", 10)
    assert api.ask("poison", 10 * LIMIT + 1) is None


def test_the_request_that_fails_is_never_its_own_control() -> None:
    api = Api()
    api.ask("other")
    api.failing.answered("poison", is_good=True)
    assert [api.ask("poison", 10) for _ in range(7)] == [None] * 6 + [LIMIT]
    assert set(api.controls) == {"other"}


def test_where_nobody_was_ever_answered_the_neutral_request_is_made() -> None:
    api = Api("neutral")
    assert [api.ask("poison", 10) for _ in range(7)] == [None] * 6 + [LIMIT]
    assert api.controls == ["neutral"] * 6


def test_a_request_that_was_answered_before_comes_before_the_neutral_one() -> None:
    api = Api("neutral")
    for _ in range(2):
        api.ask("poison", 10)
    api.ask("good", 1)
    for _ in range(3):
        api.ask("poison", 10)
    assert api.controls == ["neutral", "good", "good"]


def test_no_id_is_poison_while_the_neutral_request_is_not_answered_either() -> None:
    api = Api("neutral")
    api.is_down = True
    assert [api.ask("poison", 10) for _ in range(100)] == [None] * 100
    assert api.controls == ["neutral"] * 99


def test_the_neutral_request_is_never_its_own_control() -> None:
    api = Api("poison")
    assert [api.ask("poison", 10) for _ in range(100)] == [None] * 100
    assert api.controls == []
