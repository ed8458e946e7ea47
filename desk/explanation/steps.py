"""The values that an explanation consists of. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from desk.remedies import Remedy


class Verdict(StrEnum):
    """The answer to the question of a step."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """It cannot be said, because something could not be read."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A value that a step is based on, and where it was read: a table and column, a cache and key, a topic, a URL.

    ``is_technical``: only an operator can make something of it.
    """

    what: str
    value: str
    source: str
    is_technical: bool = False


@dataclass(frozen=True, slots=True)
class Next:
    """What to do about a step: a command, and the remedy that it sends, if it sends one.

    ``content_id`` is the content that a recompute request names.
    """

    command: str
    remedy: Remedy | None = None
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One question about a learner with its answer.

    ``name`` is the same in every language. ``is_broken``: something is wrong with the data or a server, and not with
    what the learner did. ``is_fact``: the step says what there is, and nothing is asked of the learner. ``tell`` is
    what to tell the learner; only the verdict has it.
    """

    name: str
    question: str
    verdict: Verdict
    sentence: str
    evidence: tuple[Evidence, ...] = ()
    next: Next | None = None
    is_broken: bool = False
    is_fact: bool = False
    tell: str = ""

    @property
    def mark(self) -> str:
        """The sign before the step: ``fault``, ``fact``, or the verdict of a condition."""
        if self.is_broken:
            return "fault"
        return "fact" if self.is_fact and self.verdict is not Verdict.UNKNOWN else self.verdict.value

    def as_json(self) -> dict[str, Any]:
        """The step as the command line and the API return it."""
        return {
            "step": self.name,
            "question": self.question,
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "evidence": [{"what": item.what, "value": item.value, "source": item.source} for item in self.evidence],
            "next": None if self.next is None else self.next.command,
            "isBroken": self.is_broken,
            "mark": self.mark,
            "tell": self.tell,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """All steps of a learner; the last one is the verdict."""

    steps: tuple[Step, ...] = field(default=())

    @property
    def verdict(self) -> Step:
        """The last step, which sums up the others."""
        return self.steps[-1]

    def step(self, name: str) -> Step:
        """The first step of this name. Raises KeyError."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)
