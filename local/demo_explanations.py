"""Shows what the support desk says about learners of the demo, and compares it with the expected answers."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from local.config import REPOSITORY
from local.errors import LocalWorldError
from local.story import Learner, Story

_STEPS_OF = ("Asha Rao", "Ravi Menon")
"""The learners whose steps are shown one by one: one with a certificate, and one without."""
_VERDICTS_OF = (*_STEPS_OF, "Meena Iyer")
_MARKS = {
    "yes": "[green]✓[/]",
    "no": "[red]✗[/]",
    "unknown": "[yellow]?[/]",
    "fact": "[blue]•[/]",
    "fault": "[magenta]![/]",
}
_EXPECTED = {
    "Asha Rao": "Certificate: earned with a best score of 75.0 percent, and requested from the generator on ",
    "Ravi Menon": "No certificate: the best score is 74.0 percent, 75 are asked for. Nothing is broken.",
    "Meena Iyer": "Certificate: earned with a best score of 80.0 percent, and requested from the generator on ",
}


def show_explanations(story: Story, environment: Mapping[str, str], console: Console) -> list[str]:
    """Prints the explanations of `python -m desk`, which runs with `environment`.

    Returns a line for each answer that is not the expected one. Raises LocalWorldError if the command fails.
    """
    problems = []
    console.print("\nThe support desk: why does a learner have a certificate, or none?")
    for learner in story.learners[: story.named]:
        if learner.name not in _VERDICTS_OF:
            continue
        steps = _explain(story, learner, environment)
        console.print(f"\n[bold]{learner.name}[/] [dim]{learner.about}")
        for step in steps if learner.name in _STEPS_OF else steps[-1:]:
            console.print(f"  {_MARKS[step['mark']]} {escape(step['sentence'])}", highlight=False)
        sentence = steps[-1]["sentence"]
        if not sentence.startswith(_EXPECTED[learner.name]):
            problems.append(f"{learner.user_id}: the desk says {sentence!r}, expected {_EXPECTED[learner.name]!r}")
    return problems


def _explain(story: Story, learner: Learner, environment: Mapping[str, str]) -> Sequence[Any]:
    """The steps. The batch need not be named: each learner has one."""
    arguments = ["--user", learner.user_id, "--course", story.course.course_id, "--json"]
    result = subprocess.run(
        [sys.executable, "-m", "desk", "explain", *arguments],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise LocalWorldError(f"the desk failed:\n{result.stderr}")
    steps: Sequence[Any] = json.loads(result.stdout)["steps"]
    return steps
