"""The sentences: every one that is asked for exists, and every language has the same ones."""

import re
import string
from pathlib import Path

import pytest

import desk
from desk.sentences import ENGLISH, LANGUAGES

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
    assert {f"{noun}.{form}" for noun in nouns for form in ("one", "many")} <= ENGLISH.keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_sentences_and_placeholders(language: str) -> None:
    sentences = LANGUAGES[language]
    for key, english in ENGLISH.items():
        assert sentences.has(key)
        assert placeholders(sentences.template(key)) == placeholders(english)
