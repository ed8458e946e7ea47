"""Shows an explanation on a terminal."""

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from desk.explanation.steps import Explanation, Step

_MARKS = {
    "yes": ("✓", "green"),
    "no": ("✗", "red"),
    "unknown": ("?", "yellow"),
    "fact": ("•", "blue"),
    "fault": ("!", "bold magenta"),
}


def show(explanation: Explanation, console: Console, zone_name: str, *, with_evidence: bool = True) -> None:
    """Prints the steps, each with its evidence below it, the verdict, and the time zone of all times."""
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
    if explanation.verdict.tell:
        console.print(Text.assemble("  ", ("Tell the learner: ", "bold"), explanation.verdict.tell), highlight=False)
    console.print(Text(f"  Times are in {zone_name}.", "dim"), highlight=False)


def show_step(step: Step, console: Console) -> None:
    """Prints the question and the answer of a step."""
    mark, colour = _MARKS[step.mark]
    line = Text.assemble((mark, colour), " ", (step.question, "bold"), " ", step.sentence)
    console.print(line, highlight=False)
