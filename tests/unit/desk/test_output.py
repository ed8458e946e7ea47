"""An explanation as the terminal shows it."""

from io import StringIO

import pytest
from rich.console import Console

from desk.explanation.steps import Evidence, Explanation, Next, Step, Verdict
from desk.output import show, show_step

SCORE = Step(
    "best_score",
    "What is the best score?",
    Verdict.YES,
    "It is 74.0 percent.",
    (Evidence("Quiz [bold]1[/bold]", "7.4 of 10", "table[key]"),),
    is_fact=True,
)
REQUESTS = Step(
    "requests",
    "Did all events get through?",
    Verdict.NO,
    "1 event failed.",
    next=Next("python -m jobs.replay --job assessment_aggregator --reason 'event has no attemptId'"),
    is_broken=True,
)
VERDICT = Step("verdict", "Is there a certificate?", Verdict.NO, "No certificate.", tell="Please try again.")


def shown(*steps: Step, with_evidence: bool = True) -> list[str]:
    console = Console(file=StringIO(), width=60)
    with console.capture() as capture:
        show(Explanation(steps), console, "Asia/Kolkata", with_evidence=with_evidence)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_verdict_stands_apart_and_values_and_commands_are_shown_as_they_are() -> None:
    assert shown(SCORE, REQUESTS, VERDICT) == [
        "• What is the best score? It is 74.0 percent.",
        "    Quiz [bold]1[/bold]: 7.4 of 10  table[key]",
        "! Did all events get through? 1 event failed.",
        "    python -m jobs.replay --job assessment_aggregator --reason 'event has no attemptId'",
        "",
        "✗ Is there a certificate? No certificate.",
        "  Tell the learner: Please try again.",
        "  Times are in Asia/Kolkata.",
    ]


def test_in_brief_there_is_no_evidence_but_the_command() -> None:
    lines = shown(SCORE, REQUESTS, VERDICT, with_evidence=False)
    assert lines[:3] == [
        "• What is the best score? It is 74.0 percent.",
        "! Did all events get through? 1 event failed.",
        "    python -m jobs.replay --job assessment_aggregator --reason 'event has no attemptId'",
    ]


def test_where_there_is_nothing_to_tell_the_learner_nothing_is_said_of_it() -> None:
    step = Step("verdict", "Is there a certificate?", Verdict.NO, "No certificate.")
    assert shown(step) == ["", "✗ Is there a certificate? No certificate.", "  Times are in Asia/Kolkata."]


@pytest.mark.parametrize(
    ("step", "sign"),
    [
        (Step("s", "Question?", Verdict.YES, "Answer."), "✓"),
        (Step("s", "Question?", Verdict.NO, "Answer."), "✗"),
        (Step("s", "Question?", Verdict.UNKNOWN, "Answer."), "?"),
        (Step("s", "Question?", Verdict.NO, "Answer.", is_fact=True), "•"),
        (Step("s", "Question?", Verdict.YES, "Answer.", is_broken=True), "!"),
    ],
)
def test_each_mark_has_a_sign_that_needs_no_colour(step: Step, sign: str) -> None:
    console = Console(file=StringIO(), width=60)
    with console.capture() as capture:
        show_step(step, console)
    assert capture.get() == f"{sign} Question? Answer.\n"
