"""The sentences: every one that is asked for exists, and every language has the same ones."""

import re
import string
from pathlib import Path

import pytest

import desk
from desk.sentences import ENGLISH, LANGUAGES
from tests.support.desk_records import (
    COMPLETED,
    QUIZ,
    batch,
    completed,
    course,
    explained,
    learner,
    template,
    verdict,
)

PACKAGE = Path(desk.__file__).parent
SAID = re.compile(r"""\bsay\(\s*"([a-z_.?]+)\"""")
NOUNS = re.compile(r"""\bcount\(\s*"([a-z_]+)\"""")


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_every_sentence_that_is_asked_for_exists() -> None:
    code = "\n".join(file.read_text() for file in PACKAGE.rglob("*.py"))
    said, nouns = set(SAID.findall(code)), set(NOUNS.findall(code))
    assert len(said) > 40
    assert said <= ENGLISH.keys()
    assert "required" in nouns
    assert {f"{noun}.{form}" for noun in nouns for form in ("one", "many")} <= ENGLISH.keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_sentences_and_placeholders(language: str) -> None:
    sentences = LANGUAGES[language]
    for key, english in ENGLISH.items():
        assert sentences.has(key)
        assert placeholders(sentences.template(key)) == placeholders(english)


class TestTheVerbAgreesWithTheNumber:
    def test_of_the_required_and_the_optional_contents(self) -> None:
        one = learner(course=course(QUIZ, "do_extra", optional=("do_extra",)))
        assert explained(one).step("leaf_nodes").sentence == "1 content is required, 1 is optional."
        assert explained(learner()).step("leaf_nodes").sentence == "2 contents are required, 0 are optional."

    def test_of_a_course_that_is_completed(self) -> None:
        one = learner(course=course(QUIZ), contents=[completed(QUIZ)])
        assert (
            explained(one)
            .step("progress")
            .sentence.startswith("The only required content is completed. The course was completed on 14 May 2024.")
        )
        assert explained(learner()).step("progress").sentence.startswith("All 2 contents are completed. The course")

    @pytest.mark.parametrize(
        ("number", "required", "expected"),
        [
            (0, 1, "0 of 1 content is completed"),
            (0, 2, "0 of 2 contents are completed"),
            (1, 2, "1 of 2 contents is completed"),
            (2, 3, "2 of 3 contents are completed"),
            (1000, 1200, "1,000 of 1,200 contents are completed"),
        ],
    )
    def test_of_a_course_that_is_not(self, number: int, required: int, expected: str) -> None:
        assert LANGUAGES["en"].completed(number, required) == expected

    def test_of_the_percent_that_is_asked_for(self) -> None:
        one = batch(template({**COMPLETED, "assessment": {"score": {">=": 1}}}))
        assert verdict(learner(0, batch=one)).startswith(
            "No certificate: the best score is 0.0 percent, 1 is asked for."
        )
