"""Shards of rendered pictures, as `examples/training_shard.rs` writes them, and the dense labels in them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ALPHABET = "ACDEFHJKLMNPQRSTUWXY234679"
GLYPHS = len(ALPHABET)
ILLEGIBLE = GLYPHS + 1
IGNORE = 255

# Rows of a shard's labels.
GLYPH, PLACE, DEFECT, SEVERITY, LOCATION, SCREW = range(6)


@dataclass(frozen=True)
class Head:
    """One question that the tower answers for every patch while it is trained."""

    row: int
    classes: int
    weight: float


# The glyph head tells odd from even places, so that two characters in one merged block stay apart: 0 nothing,
# 1..26 at even places, 27..52 at odd places, 53 an illegible label.
HEADS = {
    "glyph": Head(GLYPH, 2 * GLYPHS + 2, 1.0),
    "place": Head(PLACE, 9, 0.5),
    "defect": Head(DEFECT, 6, 0.7),
    "severity": Head(SEVERITY, 3, 0.3),
    "location": Head(LOCATION, 10, 0.3),
    "screw": Head(SCREW, 3, 0.3),
}
HEAD_WIDTH = sum(head.classes for head in HEADS.values())


@dataclass
class Batch:
    """Pictures (n, 336, 336, 3) of bytes, labels (n, 6, 576) of bytes, truths (None for practice plates)."""

    pictures: Tensor
    labels: Tensor
    truths: list[dict | None]

    def part(self, start: int, count: int) -> Batch:
        """A run of the batch."""
        end = start + count
        return Batch(self.pictures[start:end], self.labels[start:end], self.truths[start:end])


class Shard:
    """One shard, its pictures mapped rather than read."""

    def __init__(self, path: Path) -> None:
        self.pictures = np.memmap(f"{path}.pictures", np.uint8, "r").reshape(-1, 336, 336, 3)
        self.labels = np.fromfile(f"{path}.patches", np.uint8).reshape(-1, 6, 576)
        with open(f"{path}.jsonl", encoding="utf-8") as lines:
            self.truths: list[dict | None] = [json.loads(line) for line in lines]

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, indices: np.ndarray) -> Batch:
        """The pictures at `indices`."""
        return Batch(
            torch.from_numpy(self.pictures[indices].copy()),
            torch.from_numpy(self.labels[indices].copy()),
            [self.truths[i] for i in indices],
        )


def stream(folder: Path, patterns: list[str], size: int, seed: int) -> Iterator[Batch]:
    """Batches without end. Every pass takes, pattern by pattern, the shards that are complete by then.

    The patterns are worked in parallel, one batch of each in turn, so their order sets the mixture:
    `["c*", "n*"]` gives half practice plates. A shard that appears later is used from then on.
    """
    random = np.random.default_rng(seed)
    sources = [_batches(folder, pattern, size, random) for pattern in patterns]
    while True:
        for source in sources:
            yield next(source)


def _batches(folder: Path, pattern: str, size: int, random: np.random.Generator) -> Iterator[Batch]:
    uses: dict[str, int] = {}
    while True:
        ready = sorted(path.stem for path in folder.glob(f"{pattern}.pictures"))
        if not ready:
            time.sleep(1)
            continue
        name = min(ready, key=lambda n: (uses.get(n, 0), n))
        uses[name] = uses.get(name, 0) + 1
        shard = Shard(folder / name)
        order = random.permutation(len(shard))
        for start in range(0, len(order) - size + 1, size):
            yield shard.take(np.sort(order[start : start + size]))


def interesting(labels: Tensor) -> Tensor:
    """(batch, 24, 24) of 0 and 1: patches on or beside a glyph, a defect or a screw."""
    defect = (labels[:, DEFECT] > 0) & (labels[:, DEFECT] < IGNORE)
    there = (labels[:, GLYPH] > 0) | defect | (labels[:, SCREW] > 0)
    return F.max_pool2d(there.float().view(-1, 1, 24, 24), 3, 1, 1)[:, 0]


def keep_patches(labels: Tensor, count: int) -> Tensor:
    """(batch, count): the interesting patches and random others, in order."""
    score = interesting(labels).flatten(1) * 0.75
    return (score + torch.rand_like(score)).topk(count, 1).indices.sort(1).values


def keep_blocks(labels: Tensor, count: int) -> Tensor:
    """(batch, count): the interesting 2x2 blocks and random others, in order."""
    score = F.max_pool2d(interesting(labels)[:, None], 2).flatten(1) * 0.8
    return (score + torch.rand_like(score)).topk(count, 1).indices.sort(1).values


def take_labels(labels: Tensor, kept: Tensor | None) -> Tensor:
    """The labels of the kept patches."""
    return labels if kept is None else torch.gather(labels, 2, kept[:, None].expand(-1, 6, -1))


def dense_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy of all heads, logits (batch, n, HEAD_WIDTH), labels (batch, 6, n); and accuracies.

    "Nothing" counts a quarter. Severity and location are learnt on defects only.
    """
    total = logits.new_zeros(())
    seen: dict[str, float] = {}
    on_defect = (labels[:, DEFECT] > 0) & (labels[:, DEFECT] < IGNORE)
    for (name, head), part in zip(HEADS.items(), logits.split([h.classes for h in HEADS.values()], -1)):
        target = labels[:, head.row].long()
        if name == "glyph":
            odd = labels[:, PLACE].long() % 2
            target = torch.where(target == ILLEGIBLE, 2 * GLYPHS + 1, target + odd * GLYPHS * (target > 0))
        use = on_defect if name in ("severity", "location") else target < IGNORE
        part, target = part[use], target[use]
        weight = torch.where(target > 0, 1.0, 0.25)
        loss = F.cross_entropy(part, target, reduction="none")
        total = total + head.weight * (loss * weight).sum() / weight.sum().clamp(min=1)
        with torch.no_grad():
            right, there = part.argmax(-1) == target, target > 0
            seen[name] = right[there].float().mean().item() if there.any() else float("nan")
            if name in ("glyph", "defect"):
                seen[f"{name} false"] = 1 - right[~there].float().mean().item()
    return total, seen


def read_serials(logits: Tensor) -> list[str]:
    """The serials that the tower itself sees, from the glyph and place heads over all patches."""
    glyph, place = logits.split([h.classes for h in HEADS.values()], -1)[:2]
    glyph, place = glyph.softmax(-1), place.softmax(-1)
    either = glyph[..., 1 : 1 + GLYPHS] + glyph[..., 1 + GLYPHS : 1 + 2 * GLYPHS]
    best = torch.einsum("bng,bnp->bpg", either, place[..., 1:]).argmax(-1)
    return ["".join(ALPHABET[i] for i in row) for row in best]
