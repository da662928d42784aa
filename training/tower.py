"""Stage 1: the tower alone. Linear heads ask every patch what it shows; the decoder is not there yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from data import HEAD_WIDTH, Shard, dense_loss, keep_patches, read_serials, stream, take_labels
from model import Phi3V, cut_patches
from run import Clock, Means, Optimisers, save, say

BATCH = 16
MICRO = 8  # what a core's cache holds


@dataclass(frozen=True)
class TowerOptions:
    """Budget and places of the stage."""

    data: Path
    out: Path
    resume: Path | None
    minutes: float
    patches: int = 216  # looked at in the first part of the time; informative ones and random others
    whole_from: float = 0.88  # from this part of the time on, all 576


def random_gain(count: int) -> Tensor:
    """(count, 3): each channel up to 8 % brighter or darker."""
    return 1 + (torch.rand(count, 3) - 0.5) * 0.16


@torch.no_grad()
def check(model: Phi3V, heads: nn.Linear, shard: Shard, count: int) -> str:
    """Accuracy of the heads and of the serials they read, on pictures that were not trained on."""
    means, exact, characters, readable = Means(), 0, 0, 0
    for start in range(0, count, MICRO):
        batch = shard.take(torch.arange(start, start + MICRO).numpy())
        logits = heads(model.tower(cut_patches(batch.pictures)))
        means.add(**dense_loss(logits, batch.labels)[1])
        for read, truth in zip(read_serials(logits), batch.truths):
            if truth and truth["serial"]:
                readable += 1
                exact += read == truth["serial"]
                characters += sum(a == b for a, b in zip(read, truth["serial"]))
    return f"serial {exact / readable:.3f} characters {characters / readable / 8:.4f}  {means.take()}"


def train_tower(model: Phi3V, options: TowerOptions) -> None:
    """Trains the tower and its heads until the budget is spent."""
    heads = nn.Linear(model.size.tower_width, HEAD_WIDTH)
    clock, seen = Clock(options.minutes), 0
    if options.resume:
        state = torch.load(options.resume)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        clock, seen = Clock(options.minutes, state["seconds"]), state["seen"]
    optimisers = Optimisers(muon_rate=0.02, adam_rate=1.5e-3)
    named = [(n, p) for n, p in model.tower.named_parameters() if "post_layernorm" not in n]
    unused = f"encoder.layers.{model.size.tower_layers - 1}."
    optimisers.add([(n, p) for n, p in named if not n.startswith(unused)])
    optimisers.add([(f"heads.{n}", p) for n, p in heads.named_parameters()])
    validation = Shard(options.data / "v00")
    means, next_check = Means(), seen + 2000
    # Two thirds practice plates first, then one third.
    early = stream(options.data, ["c*", "c*", "n*"], BATCH, seed=seen + 1)
    late = stream(options.data, ["c*", "n*", "n*"], BATCH, seed=seen + 2)
    step = 0
    while clock.progress < 1:
        batch = next(early if clock.progress < 0.6 else late)
        whole = clock.progress >= options.whole_from
        for start in range(0, BATCH, MICRO):
            part = batch.part(start, MICRO)
            kept = None if whole else keep_patches(part.labels, options.patches)
            logits = heads(model.tower(cut_patches(part.pictures, kept, random_gain(MICRO)), kept))
            loss, accuracy = dense_loss(logits, take_labels(part.labels, kept))
            (loss * MICRO / BATCH).backward()
            means.add(loss=loss.item(), **accuracy)
        optimisers.step(clock.rate(step))
        step, seen = step + 1, seen + BATCH
        if step % 50 == 0:
            say("tower", f"seen {seen} at {clock.seconds:.0f} s  {means.take()}")
        if seen >= next_check:
            next_check = int(seen * 1.2) + 1500
            say("tower", f"CHECK seen {seen} at {clock.seconds:.0f} s  {check(model, heads, validation, 128)}")
            save(options.out, model, heads, clock, seen)
    save(options.out, model, heads, clock, seen)
    say("tower", f"END seen {seen}  {check(model, heads, validation, 296)}")
