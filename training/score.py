"""Compares answers with the truth."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from prompts import CLASSES


def read(answer: str, keys: tuple[str, str]) -> dict | None:
    """An answer as JSON with exactly these keys, or None."""
    try:
        value = json.loads(answer)
    except ValueError:
        return None
    return value if isinstance(value, dict) and tuple(value) == keys else None


@dataclass
class Score:
    """Counts over a set of pictures."""

    count: Counter = field(default_factory=Counter)
    classes: list[str] = field(default_factory=lambda: CLASSES)
    mistakes: list[str] = field(default_factory=list)

    def add(self, serial_answer: str, defects_answer: str, truth: dict) -> None:
        """Adds one picture: both answers and its line of truth."""
        c = self.count
        c["pictures"] += 1
        serial = read(serial_answer, ("legible", "serial"))
        listed = read(defects_answer, ("inspectable", "defects"))
        c["valid"] += serial is not None and listed is not None
        said = serial["serial"] if serial else None
        right = said == truth["serial"] and serial is not None
        self._add_serial(said, serial, truth)
        found = listed["defects"] or [] if listed else []
        c["inspectable right"] += bool(listed) and listed["inspectable"] == truth["inspectable"]
        c["verdict right"] += verdict(said, found) == truth["verdict"]
        self._add_defects(found, truth["defects"])
        if not right or found != truth["defects"]:
            self.mistakes.append(f"{serial_answer} {defects_answer}  truth {truth['serial']} {truth['defects']}")

    def _add_serial(self, said: str | None, serial: dict | None, truth: dict) -> None:
        c = self.count
        if truth["serial"] is None:
            c["illegible"] += 1
            c["illegible right"] += serial is not None and said is None
        else:
            c["legible"] += 1
            c["serial exact"] += said == truth["serial"]
            c["legible refused"] += said is None
            c["characters right"] += sum(a == b for a, b in zip(said or "", truth["serial"]))
        c["serial wrong but sure"] += said is not None and said != truth["serial"]

    def _add_defects(self, found: list[dict], true: list[dict]) -> None:
        c = self.count
        try:
            whole = [{(d["class"], d["severity"], d["location"]) for d in some} for some in (found, true)]
        except (KeyError, TypeError):
            whole = [set(), {(d["class"], d["severity"], d["location"]) for d in true}]
        classes = [{d[0] for d in some} for some in whole]
        for name in self.classes:
            c[name, "hit"] += name in classes[0] and name in classes[1]
            c[name, "false"] += name in classes[0] - classes[1]
            c[name, "missed"] += name in classes[1] - classes[0]
        c["class sets right"] += classes[0] == classes[1]
        c["defects exact"] += whole[0] == whole[1]
        c["whole", "hit"] += len(whole[0] & whole[1])
        c["whole", "false"] += len(whole[0] - whole[1])
        c["whole", "missed"] += len(whole[1] - whole[0])

    def f1(self, name: str) -> float:
        """F1 of a class, or of class, severity and location together (`whole`)."""
        hit, wrong = self.count[name, "hit"], self.count[name, "false"] + self.count[name, "missed"]
        return 2 * hit / max(1, 2 * hit + wrong)

    def summary(self) -> dict[str, float]:
        """The figures by name, fractions."""
        c, n = self.count, self.count["pictures"]
        out = {name: c[name] / n for name in ("valid", "verdict right", "inspectable right", "class sets right", "defects exact")}
        out["serial exact"] = c["serial exact"] / max(1, c["legible"])
        out["characters right"] = c["characters right"] / max(1, 8 * c["legible"])
        out["legible refused"] = c["legible refused"] / max(1, c["legible"])
        out["illegible right"] = c["illegible right"] / max(1, c["illegible"])
        out["serial wrong but sure"] = c["serial wrong but sure"] / n
        out["class macro F1"] = sum(map(self.f1, self.classes)) / len(self.classes)
        out["class, severity, location F1"] = self.f1("whole")
        return out

    def __str__(self) -> str:
        return "  ".join(f"{name} {value:.4f}" for name, value in self.summary().items())


def verdict(serial: str | None, defects: list[dict]) -> str:
    """The verdict that follows from both answers."""
    if defects:
        return "fail"
    return "review" if serial is None else "pass"
