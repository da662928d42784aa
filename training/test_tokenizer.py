"""What the tokenizer promises to training and to the daemon's grammar. Run: `python test_tokenizer.py`, or pytest."""

from __future__ import annotations

import itertools

from data import ALPHABET
from prompts import CLASSES, LOCATIONS, SEVERITIES, defects_answer, serial_answer
from tokenizer import SPACE, Text, definition

TEXT = Text()
VOCABULARY = TEXT.tokenizer.get_vocab()


def answers() -> list[str]:
    """Answers of both questions: every pair of classes with changing severities and locations."""
    said = [serial_answer({"serial": None}), serial_answer({"serial": "A7K2M9PX"}), serial_answer({"serial": ALPHABET[:8]})]
    said.append(defects_answer({"inspectable": False, "defects": []}))
    for count in range(3):
        for classes in itertools.product(CLASSES, repeat=count):
            for severity, location in itertools.product(SEVERITIES, LOCATIONS):
                defects = [{"class": c, "severity": severity, "location": location} for c in classes]
                said.append(defects_answer({"inspectable": True, "defects": defects}))
    return said


def longest_match(text: str) -> list[int]:
    """Ids by taking the longest piece each time, as a grammar does with forced text."""
    rest, ids = text.replace(" ", SPACE), []
    while rest:
        piece = max((p for p in VOCABULARY if rest.startswith(p)), key=len)
        ids.append(VOCABULARY[piece])
        rest = rest[len(piece) :]
    return ids


def test_no_merge_holds_a_serial_character() -> None:
    for merge in definition()["model"]["merges"]:
        assert not any(c.isupper() or c.isdigit() for c in merge), merge


def test_answers_come_back_and_match_the_longest_pieces() -> None:
    for answer in answers():
        ids = TEXT.answer(answer)
        assert TEXT.decode(ids) == answer
        assert ids[:-1] == longest_match(answer), answer


def test_lengths() -> None:
    assert len(TEXT.answer(serial_answer({"serial": "A7K2M9PX"}))) == 1 + 8 + 1 + 1
    assert len(TEXT.answer(serial_answer({"serial": None}))) == 2
    assert len(TEXT.answer(defects_answer({"inspectable": True, "defects": []}))) == 3


def test_every_printable_character_has_ids() -> None:
    for code in range(0x20, 0x7F):
        ids = TEXT.tokenizer.encode(chr(code)).ids
        assert 0 not in ids, chr(code)


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"{name}: ok")
