"""Shows an explanation on a terminal."""

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from desk.explanation.steps import Explanation, Step, Verdict

_MARKS = {Verdict.YES: ("✓", "green"), Verdict.NO: ("✗", "red"), Verdict.UNKNOWN: ("?", "yellow")}


def show(explanation: Explanation, console: Console, *, with_evidence: bool = True) -> None:
    """Prints the steps, each with its evidence below it, and the verdict last."""
    for step in explanation.steps:
        if step is explanation.verdict:
            console.print()
        show_step(step, console)
        for item in step.evidence if with_evidence else ():
            line = Text.assemble((item.what, "dim"), ": ", item.value, (f"  {item.source}", "dim"))
            console.print(Padding(line, (0, 0, 0, 4)), highlight=False)
        if step.next is not None:
            # On a line of its own and never wrapped, so that it can be copied.
            console.print(Text(f"    {step.next.command}", "cyan"), soft_wrap=True, highlight=False)


def show_step(step: Step, console: Console) -> None:
    """Prints the question and the answer of a step."""
    mark, colour = _MARKS[step.verdict]
    line = Text.assemble((mark, colour), " ", (step.question, "bold"), " ", step.sentence)
    console.print(line, highlight=False)
