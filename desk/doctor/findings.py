"""What the doctor finds, and the file that it writes: one JSON object a line."""

import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from common.domain.enrolments import EnrolmentKey
from desk.remedies import Remedy


class Check(StrEnum):
    """The kinds of checks, as ``--checks`` names them."""

    SCORES = "scores"
    """Best scores in ``aggregates`` against the stored attempts."""
    DETAILS = "details"
    """``agg_details`` and ``question``: doubled or missing elements."""
    PROGRESS = "progress"
    """``completedCount``, ``progress``, ``contentstatus`` and ``status`` against the stored contents."""
    CERTIFICATES = "certificates"
    """Certificates that are missing, and certificates whose criteria are not met."""
    CUT = "cut"
    """Learners for whom another certificate decision follows from the exact score than from the old, cut one."""
    PHANTOMS = "phantoms"
    """Enrolment rows that nobody has made."""
    TIMES = "times"
    """Times outside of the years 1970 to 9999."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True, tag="finding"):
    """Something that is wrong in the rows of a learner in a batch.

    ``kind`` is a snake_case word, the same for all findings of the same sort. ``what`` is a sentence with the values.
    ``remedy`` is the event that puts it right; a finding without one is only reported. ``content_id`` is a content of
    the course, which a recompute request must name. ``issues_again``: the remedy would also issue a certificate again
    that the learner holds.
    """

    check: Check
    kind: str
    user_id: str
    course_id: str
    batch_id: str
    what: str
    remedy: Remedy | None = None
    content_id: str = ""
    issues_again: bool = False

    @property
    def key(self) -> EnrolmentKey:
        """Whom it is about."""
        return EnrolmentKey(self.user_id, self.course_id, self.batch_id)


class FindingsError(Exception):
    """The file of findings cannot be used. The text says where and why."""


class Header(msgspec.Struct, frozen=True, tag="header"):
    """The first line of the file: what is checked. A scan is continued only with the same."""

    course_id: str | None
    batch_id: str | None
    checks: tuple[Check, ...]
    ranges: int


class RangeDone(msgspec.Struct, frozen=True, tag="range"):
    """The line behind the findings of a token range. Lines behind the last of them belong to a range that was stopped.

    ``enrolments`` is how many were examined.
    """

    number: int
    enrolments: int


_LINE = msgspec.json.Decoder(Header | RangeDone | Finding)


def read(path: Path) -> Iterator[Finding]:
    """The findings of a file. Those of a token range that was stopped are left out: a continued scan finds them again.

    Lines without a header, such as those of another program that has picked some of them, are all findings. Raises
    FindingsError for a line that is none of this, and if the file cannot be read.
    """
    pending: list[Finding] = []
    is_scan = False
    for _, line in lines(path):
        if isinstance(line, Finding):
            pending.append(line)
        elif isinstance(line, Header):
            is_scan = True
        else:
            yield from pending
            pending = []
    if not is_scan:
        yield from pending


def lines(path: Path) -> Iterator[tuple[int, Header | RangeDone | Finding]]:
    """Each whole line with the number of bytes up to its end. A last line without an end was being written."""
    end = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                end += len(line)
                try:
                    yield end, _LINE.decode(line)
                except msgspec.DecodeError as error:
                    raise FindingsError(f"{path}, line {number}: not a finding: {error}") from error
    except OSError as error:
        raise FindingsError(f"{path} cannot be read: {error.strerror}") from error


class FindingsFile:
    """The file of one scan, to which whole token ranges are added. It survives a kill of the process."""

    def __init__(self, path: Path, header: Header) -> None:
        """Creates the file or continues it.

        Raises FindingsError if it is of another scan or no file of findings, and leaves it as it is; also if it cannot
        be written.
        """
        self.path = path
        self.done: dict[int, int] = {}
        """How many enrolments were examined, by the number of each token range that is done."""
        try:
            is_begun = path.exists() and self._continue(header)
            self._file = path.open("ab")
            if not is_begun:
                self._add([header])
        except OSError as error:
            raise FindingsError(f"{path} cannot be written: {error.strerror}") from error

    def _continue(self, header: Header) -> bool:
        """Reads what is done, and cuts off what is not. Returns whether there is a header."""
        last_mark = 0
        first: object = None
        for end, line in lines(self.path):
            first = first or line
            if not isinstance(line, Finding):
                last_mark = end
            if isinstance(line, RangeDone):
                self.done[line.number] = line.enrolments
        if first not in (None, header):
            raise FindingsError(f"{self.path} holds other findings than those of this check: name another file")
        if first is None and not self._is_cut(header):
            raise FindingsError(f"{self.path} is no file of findings: name another file")
        os.truncate(self.path, last_mark)
        return first is not None

    def _is_cut(self, header: Header) -> bool:
        """Whether the file has nothing but the beginning of the header, or not even that."""
        line = msgspec.json.encode(header)
        with self.path.open("rb") as file:
            return line.startswith(file.read(len(line) + 1))

    def add(self, number: int, enrolments: int, findings: Sequence[Finding]) -> None:
        """Adds the findings of a token range, in which so many enrolments were examined."""
        self._add([*findings, RangeDone(number, enrolments)])
        self.done[number] = enrolments

    def _add(self, lines: Sequence[msgspec.Struct]) -> None:
        self._file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
