"""Labelled sets: a folder with `truth.jsonl` and its pictures, as `inspectd simulate pictures` writes and
`inspectd evaluate` reads them. README.md has the form line by line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from prompts import CLASSES, LOCATIONS, SEVERITIES

SIDE = 336
SERIAL_MAX_CHARS = 64
VERDICTS = ["pass", "fail", "review"]


class SetError(Exception):
    """A set that cannot be learnt from: the file, the line, what is wrong."""


def read_set(folder: Path) -> tuple[list[dict], list[str]]:
    """The truths of a set, defects in the order in which an answer lists them, and its classes in that order:
    those that the built-in model knows first, then the new ones by name."""
    path = folder / "truth.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as why:
        raise SetError(f"cannot read {path}: {why}; a set is a folder with truth.jsonl and its pictures") from why
    truths = [_truth(path, number, line) for number, line in enumerate(lines, 1)]
    if not truths:
        raise SetError(f"{path} lists no pictures")
    found = {defect["class"] for truth in truths for defect in truth["defects"]}
    classes = [*CLASSES, *sorted(found - set(CLASSES))]
    for truth in truths:
        truth["defects"].sort(key=lambda d: (classes.index(d["class"]), d["location"], d["severity"]))
        truth["defects"] = [
            {"class": d["class"], "severity": SEVERITIES[d["severity"]], "location": LOCATIONS[d["location"]]}
            for d in truth["defects"]
        ]
    return truths, classes


def _truth(path: Path, number: int, line: str) -> dict:
    def refuse(problem: str) -> SetError:
        return SetError(f"{path}:{number}: {problem}")

    try:
        value = json.loads(line)
    except ValueError as why:
        raise refuse(f"not JSON: {why}") from why
    if not isinstance(value, dict):
        raise refuse("a line must be a JSON object")
    missing = [name for name in ("file", "verdict", "serial", "defects") if name not in value]
    if missing:
        raise refuse(f"`{missing[0]}` is missing")
    file, serial = value["file"], value["serial"]
    if not isinstance(file, str) or not file or Path(file).name != file:
        raise refuse(f"`file` must be a file name, not {file!r}")
    if value["verdict"] not in VERDICTS:
        raise refuse(f"`verdict` must be one of {', '.join(VERDICTS)}")
    if not isinstance(value.get("inspectable", True), bool):
        raise refuse("`inspectable` must be true or false")
    if serial is not None and (not isinstance(serial, str) or not 0 < len(serial) <= SERIAL_MAX_CHARS):
        raise refuse("`serial` must be a text of 1 to 64 characters, or null where nobody can read it")
    if not isinstance(value["defects"], list):
        raise refuse("`defects` must be a list")
    defects = []
    for defect in value["defects"]:
        if not isinstance(defect, dict) or not isinstance(defect.get("class"), str) or not defect["class"]:
            raise refuse("a defect must have a `class`")
        if defect.get("severity") not in SEVERITIES:
            raise refuse(f"`severity` must be one of {', '.join(SEVERITIES)}")
        if defect.get("location") not in LOCATIONS:
            raise refuse(f"`location` must be one of {', '.join(LOCATIONS)}")
        severity, location = SEVERITIES.index(defect["severity"]), LOCATIONS.index(defect["location"])
        defects.append({"class": defect["class"], "severity": severity, "location": location})
    return {
        "file": file,
        "verdict": value["verdict"],
        "serial": serial,
        "defects": defects,
        "inspectable": value.get("inspectable", True),
    }


def read_picture(folder: Path, file: str) -> Tensor:
    """A picture of the set: (336, 336, 3) bytes."""
    path = folder / file
    try:
        with Image.open(path) as picture:
            if picture.size != (SIDE, SIDE):
                width, height = picture.size
                raise SetError(f"{path} has {width}x{height} pixels; what a region sees, and its evidence, is 336x336")
            return torch.from_numpy(np.array(picture.convert("RGB")))
    except (OSError, Image.DecompressionBombError) as why:
        raise SetError(f"cannot read the picture {path}: {why}") from why
