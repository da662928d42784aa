"""Measures an exported model folder on pictures it was not trained on: `evaluate.py models/builtin SHARD`.

The answers are the likeliest tokens, without the daemon's grammar, so invalid JSON counts against the model here.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from data import Shard
from export import load
from model import cut_patches
from prompts import CLASSES, QUESTIONS, SYSTEMS
from score import Score
from sequence import generate
from tokenizer import Text

BATCH = 10


def evaluate(folder: Path, shard: Shard, count: int, wordings: list[tuple[str, str, str]]) -> dict[str, Score]:
    """Scores by wording; a wording is system text, serial question, defects question."""
    model, text = load(folder), Text()
    scores = {" | ".join(words): Score() for words in wordings}
    with torch.no_grad():
        for start in range(0, count, BATCH):
            batch = shard.take(np.arange(start, min(start + BATCH, count)))
            features = model.tower(cut_patches(batch.pictures))
            for words in wordings:
                system, serial, defects = words
                answers = zip(*generate(model, text, features, system, [serial, defects]), batch.truths)
                for serial_answer, defects_answer, truth in answers:
                    if truth is not None:
                        scores[" | ".join(words)].add(serial_answer, defects_answer, truth)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="exported model folder")
    parser.add_argument("shard", type=Path, help="shard of a seed that was not trained on")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--all-wordings", action="store_true", help="every trained wording, not only the daemon's")
    parser.add_argument("--mistakes", type=int, default=5, help="how many wrong answers to print")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    wordings = [(SYSTEMS[0], QUESTIONS["serial"][0], QUESTIONS["defects"][0])]
    if given.all_wordings:
        pairs = list(zip(QUESTIONS["serial"], QUESTIONS["defects"]))
        wordings = [(system, *pairs[i % len(pairs)]) for i, system in enumerate(SYSTEMS)]
        wordings += [(SYSTEMS[0], *pair) for pair in pairs[len(SYSTEMS) :]]
    shard = Shard(given.shard)
    started = time.process_time()
    scores = evaluate(given.folder, shard, min(given.count, len(shard)), wordings)
    for words, score in scores.items():
        print(words)
        for name, value in score.summary().items():
            print(f"  {name:28} {value:.4f}")
        print("  " + "  ".join(f"{name} F1 {score.f1(name):.4f}" for name in CLASSES))
        for mistake in score.mistakes[: given.mistakes]:
            print(f"  wrong: {mistake}")
    print(f"{time.process_time() - started:.0f} CPU-seconds on one thread")
    if given.json:
        figures = {words: score.summary() for words, score in scores.items()}
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
