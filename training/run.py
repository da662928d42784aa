"""What the training stages share: the clock they anneal by, optimisers, checkpoints, the log."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from muon import Muon


@dataclass
class Clock:
    """A stage's budget in minutes of wall time, some of it perhaps spent before an interruption."""

    minutes: float
    spent_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.spent_s + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the budget is spent."""
        return self.seconds / 60 / self.minutes

    def rate(self, step: int, warm: int = 100) -> float:
        """Learning rate as a fraction of the highest: a linear start, then a cosine down to 2 %."""
        start = min(1.0, (step + 1) / warm)
        return start * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, self.progress))))


class Optimisers:
    """Muon for the matrices of the layers, AdamW for all else; each group with its own share of the rate."""

    def __init__(self, muon_rate: float, adam_rate: float) -> None:
        self.muon_rate, self.adam_rate = muon_rate, adam_rate
        self.members: list[tuple[Muon | torch.optim.AdamW, float]] = []
        self.parameters: list[nn.Parameter] = []

    def add(self, named: list[tuple[str, nn.Parameter]], share: float = 1.0) -> None:
        """Adds parameters; `share` scales their rates."""
        matrices = [p for n, p in named if p.ndim == 2 and ("layers" in n or "img_projection" in n)]
        chosen = {id(p) for p in matrices}
        rest = [(n, p) for n, p in named if id(p) not in chosen]
        decayed = [p for n, p in rest if p.ndim in (2, 4) and "embed" not in n]
        plain = [p for n, p in rest if not (p.ndim in (2, 4) and "embed" not in n)]
        if matrices:
            self.members.append((Muon(matrices, self.muon_rate * share), self.muon_rate * share))
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
        rate = self.adam_rate * share
        self.members.append((torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True), rate))
        self.parameters += [p for _, p in named]

    def step(self, factor: float) -> None:
        """Clips the gradients to norm 1, steps at `factor` of the rates, and forgets the gradients."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimiser, rate in self.members:
            if isinstance(optimiser, Muon):
                optimiser.rate = rate * factor
            else:
                for group in optimiser.param_groups:
                    group["lr"] = rate * factor
            optimiser.step()
        for p in self.parameters:
            p.grad = None


class Means:
    """Running means of named numbers between two lines of the log."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}

    def add(self, **numbers: float) -> None:
        for name, number in numbers.items():
            self.values.setdefault(name.replace("_", " "), []).append(number)

    def take(self) -> str:
        """The means as text; starts again."""
        text = "  ".join(f"{name} {np.nanmean(v):.3f}" for name, v in self.values.items() if not np.all(np.isnan(v)))
        self.values.clear()
        return text


def save(path: Path, model: nn.Module, heads: nn.Module | None, clock: Clock, seen: int) -> None:
    """Writes a checkpoint so that an interruption leaves the old one or the new one."""
    state = {"model": model.state_dict(), "seconds": clock.seconds, "seen": seen}
    if heads is not None:
        state["heads"] = heads.state_dict()
    temporary = path.with_suffix(".part")
    torch.save(state, temporary)
    temporary.replace(path)


def say(stage: str, text: str) -> None:
    """One line of the log."""
    print(f"{time.strftime('%H:%M:%S')} {stage} {text}", flush=True)
