"""What is asked of a picture and what the right answer is, as text.

The daemon builds the same strings. Wordings are sampled uniformly in training, so that none of them is a poor
relation; a model that had met one of three wordings less read a third of the serials wrongly under it.
"""

from __future__ import annotations

import json

# The daemon's own wording stands first.
SYSTEMS = [
    "You are a precise visual analyst. Report only what you can see. If text is unclear, say that it is unclear.",
    "You inspect parts on a production line. Report only what you can see.",
    "You are an inspector. Answer only in JSON.",
    "",
]
QUESTIONS = {
    "serial": [
        "Read the serial number on the label. Answer in JSON.",
        "Read the serial number. Answer in JSON.",
        "What is the serial number on the label? Answer in JSON.",
        "What serial number is printed on the label?",
        "Read the label. Answer in JSON.",
        "Report the serial number of this part as JSON.",
    ],
    "defects": [
        "List the visible defects. Answer in JSON.",
        "List the visible defects (scratch, dent, stain, crack, missing_screw). Answer in JSON.",
        "List the visible defects (scratch, dent, stain, crack, missing_screw).",
        "List all defects that you can see. Answer in JSON.",
        "Which defects are visible on this part? Answer in JSON.",
        "Look for a scratch, dent, stain, crack or missing_screw. Answer in JSON.",
    ],
}

CLASSES = ["scratch", "dent", "stain", "crack", "missing_screw"]
SEVERITIES = ["minor", "major"]
LOCATIONS = [f"{row} {column}" for row in ("upper", "center", "lower") for column in ("left", "center", "right")]
LOCATIONS[4] = "center"

# What answers say in one go; each becomes one token.
ANSWER_RUNS = [
    '{"legible":true,"serial":"',
    '{"legible":false,"serial":null}',
    '"}',
    '{"inspectable":true,"defects":[',
    '{"inspectable":false,"defects":null}',
    '{"class":"',
    '","severity":"',
    '","location":"',
    '"},',
    '"}]}',
]


def before_image(system: str) -> str:
    """The prompt up to the image tag."""
    head = f"<|system|>\n{system}<|end|>\n" if system else ""
    return f"{head}<|user|>\n"


def after_image(question: str) -> str:
    """The prompt after the image tag."""
    return f"\n{question}<|end|>\n<|assistant|>\n"


def serial_answer(truth: dict) -> str:
    """The answer to a question of `QUESTIONS["serial"]`."""
    return compact({"legible": truth["serial"] is not None, "serial": truth["serial"]})


def defects_answer(truth: dict) -> str:
    """The answer to a question of `QUESTIONS["defects"]`."""
    return compact({"inspectable": truth["inspectable"], "defects": truth["defects"] if truth["inspectable"] else None})


def compact(value: dict) -> str:
    """JSON without white space."""
    return json.dumps(value, separators=(",", ":"))
