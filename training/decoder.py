"""Stages 2 and 3: the decoder learns to answer, first under a frozen tower, then together with it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from data import HEAD_WIDTH, Batch, Shard, dense_loss, keep_blocks, stream, take_labels
from model import BLOCK_PATCHES, Phi3V, cut_patches, merge
from prompts import QUESTIONS, SYSTEMS, defects_answer, serial_answer
from run import Clock, Means, Optimisers, save, say
from score import Score
from sequence import NO_LOSS, Asked, answer_logits, answer_loss, generate
from tokenizer import Text
from tower import random_gain

BATCH = 16

# What a step looks at: merged blocks (None: all 144) and views. Less is cheaper, and the blocks that matter are
# always there; but a model that has only seen parts reads a whole picture badly, so wholes come in more and more.
Look = tuple[int | None, str]
EARLY: list[Look] = [(48, "tile"), (48, "global"), (48, "tile"), (48, "global"), (48, "tile"), (72, "both")]
MIDDLE: list[Look] = [(72, "tile"), (72, "both"), (72, "global"), (None, "both")]
LATE: list[Look] = [(None, "both")]


@dataclass(frozen=True)
class DecoderOptions:
    """Budget and places of a stage."""

    data: Path
    out: Path
    start: Path
    minutes: float
    tower_share: float  # of the learning rate; 0 freezes the tower
    dense_share: float  # of the dense loss beside the answers'
    middle_from: float = 0.35  # from this part of the time on, every fourth step is a whole picture
    whole_from: float = 0.75  # and from here on, every step
    fresh: bool = True  # False: go on with the clock of the checkpoint
    rate: float = 1.0  # factor on all learning rates


def fit_projector(model: Phi3V, shard: Shard) -> None:
    """Scales projector and separators to the spread of the tower's features; they begin far apart otherwise."""
    with torch.no_grad():
        spread = model.tower(cut_patches(shard.take(torch.arange(8).numpy()).pictures)).std()
        vision = model.model.vision_embed_tokens
        vision.img_projection[0].weight.div_(spread)
        vision.glb_GN.mul_(spread / 3)
        vision.sub_GN.mul_(spread / 3)


def ask(batch: Batch) -> list[Asked]:
    """A wording of each question, in random order, and the answers."""
    truths = [truth for truth in batch.truths if truth is not None]
    both = [
        Asked(random.choice(QUESTIONS["serial"]), [serial_answer(t) for t in truths]),
        Asked(random.choice(QUESTIONS["defects"]), [defects_answer(t) for t in truths]),
    ]
    random.shuffle(both)
    return both


@torch.no_grad()
def check(model: Phi3V, text: Text, shard: Shard, count: int) -> Score:
    """Answers to random wordings about pictures that were not trained on."""
    score = Score()
    for start in range(0, count, 10):
        batch = shard.take(torch.arange(start, min(start + 10, count)).numpy())
        features = model.tower(cut_patches(batch.pictures))
        questions = [random.choice(QUESTIONS["serial"]), random.choice(QUESTIONS["defects"])]
        serials, defects = generate(model, text, features, random.choice(SYSTEMS), questions)
        for serial, defect, truth in zip(serials, defects, batch.truths):
            if truth is not None:
                score.add(serial, defect, truth)
    return score


class Trainer:
    """One stage: the model, what steps it, and a micro-batch's forward and backward pass."""

    def __init__(self, model: Phi3V, heads: nn.Linear, options: DecoderOptions) -> None:
        self.model, self.heads, self.options, self.text = model, heads, options, Text()
        self.optimisers = Optimisers(muon_rate=0.01 * options.rate, adam_rate=2e-3 * options.rate)
        tower = {id(p) for p in model.tower.parameters()}
        rest = [(n, p) for n, p in model.named_parameters() if id(p) not in tower]
        model.model.vision_embed_tokens.img_projection[0].weight.rate_factor = 0.3
        self.optimisers.add(rest)
        if options.tower_share > 0:
            unused = ("post_layernorm", f"encoder.layers.{model.size.tower_layers - 1}.")
            used = [(n, p) for n, p in model.tower.named_parameters() if not n.startswith(unused)]
            self.optimisers.add(used, options.tower_share)
            self.optimisers.add([(f"heads.{n}", p) for n, p in heads.named_parameters()], options.tower_share)

    def features(self, batch: Batch, patches: Tensor | None) -> Tensor:
        """The tower's features of the patches, with or without a way back for gradients."""
        cut = cut_patches(batch.pictures, patches, random_gain(len(batch.pictures)))
        with torch.set_grad_enabled(self.options.tower_share > 0):
            return self.model.tower(cut, patches)

    def look(self, progress: float, step: int) -> Look:
        """What this step looks at."""
        options = self.options
        turns = EARLY if progress < options.middle_from else MIDDLE if progress < options.whole_from else LATE
        return turns[step % len(turns)]

    def backward(self, batch: Batch, look: Look, share: float) -> tuple[float, Tensor, Tensor]:
        """Adds a micro-batch's gradients, `share` of the whole batch. Returns loss, logits, targets."""
        blocks, views = look
        kept = None if blocks is None else keep_blocks(batch.labels, blocks)
        patches = None if kept is None else BLOCK_PATCHES[kept].flatten(1)
        features = self.features(batch, patches)
        merged = merge(features) if kept is None else features.view(len(features), blocks, -1)
        logits, targets = answer_logits(self.model, self.text, merged, kept, views, random.choice(SYSTEMS), ask(batch))
        loss = answer_loss(logits, targets) / (targets != NO_LOSS).sum()
        total = loss
        if self.options.tower_share > 0 and self.options.dense_share > 0:
            dense, _ = dense_loss(self.heads(features), take_labels(batch.labels, patches))
            total = total + self.options.dense_share * dense
        (total * share).backward()
        return loss.item(), logits.detach(), targets


def train_decoder(model: Phi3V, options: DecoderOptions) -> None:
    """Trains until the budget is spent: stage 2 with a frozen tower, stage 3 with `tower_share` above 0."""
    heads = nn.Linear(model.size.tower_width, HEAD_WIDTH)
    state = torch.load(options.start)
    model.load_state_dict(state["model"])
    heads.load_state_dict(state["heads"])
    validation = Shard(options.data / "v00")
    if options.fresh and options.tower_share == 0:
        fit_projector(model, validation)
    clock = Clock(options.minutes, 0.0 if options.fresh else state["seconds"])
    stage = "joint" if options.tower_share > 0 else "decoder"
    trainer = Trainer(model, heads, options)
    batches = stream(options.data, ["n*"], BATCH, seed=int(state["seen"]) + 3)
    means, seen, next_check, step = Means(), 0, 3000, 0
    while clock.progress < 1:
        batch = next(batches)
        look = trainer.look(clock.progress, step)
        micro = 4 if look[0] is None else 8
        for start in range(0, BATCH, micro):
            loss, logits, targets = trainer.backward(batch.part(start, micro), look, micro / BATCH)
            right = (logits.argmax(-1) == targets)[targets != NO_LOSS].float().mean().item()
            means.add(loss=loss, tokens=right)
        trainer.optimisers.step(clock.rate(step))
        step, seen = step + 1, seen + BATCH
        if step % 25 == 0:
            say(stage, f"seen {seen} at {clock.seconds:.0f} s  {means.take()}")
        if seen >= next_check:
            next_check = int(seen * 1.25) + 1500
            save(options.out, model, heads, clock, seen)
            say(stage, f"CHECK seen {seen} at {clock.seconds:.0f} s  {check(model, trainer.text, validation, 60)}")
    save(options.out, model, heads, clock, seen)
    say(stage, f"END seen {seen}  {check(model, trainer.text, validation, 300)}")
