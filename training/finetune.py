"""Teaches a model something new without changing its weights: `finetune.py --model DIR --set DIR --out DIR`.

The set is a folder with truth.jsonl and its pictures, the same that `inspectd evaluate --set` reads. What is learnt is
written as a PEFT adapter, which a station names by `adapter = "DIR"`. The tower stays as it is: each picture passes it
a few times at different brightness before the training begins, and never again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import export
import lora
from labelled import SetError, read_picture, read_set
from model import Phi3V, cut_patches, merge
from prompts import QUESTIONS, SYSTEMS, defects_answer, serial_answer
from score import Score
from sequence import NO_LOSS, Asked, answer_logits, answer_loss, generate
from tokenizer import Text
from tower import random_gain


@dataclass(frozen=True)
class Wording:
    """What the station asks, word for word."""

    system: str
    serial: str
    defects: str


@dataclass
class Pictures:
    """Features of every picture (pictures, variants, 576, width) in f16, the unchanged one first; and the truths."""

    features: Tensor
    truths: list[dict]

    def part(self, indices: list[int]) -> Pictures:
        return Pictures(self.features[indices], [self.truths[i] for i in indices])


@torch.no_grad()
def look(model: Phi3V, folder: Path, truths: list[dict], variants: int) -> Pictures:
    """Takes every picture through the tower, as it is and `variants - 1` times with other gains of the channels."""
    features = []
    for truth in tqdm(truths, desc="looking", unit="picture"):
        pictures = read_picture(folder, truth["file"])[None].expand(variants, -1, -1, -1)
        gain = torch.cat([torch.ones(1, 3), random_gain(variants - 1)])
        features.append(model.tower(cut_patches(pictures, None, gain)).half())
    return Pictures(torch.stack(features), truths)


def losses(model: Phi3V, text: Text, wording: Wording, features: Tensor, truths: list[dict]) -> tuple[Tensor, int]:
    """Summed cross entropy over the answers' tokens of both questions, and how many tokens those are."""
    asked = [
        Asked(wording.serial, [serial_answer(t) for t in truths]),
        Asked(wording.defects, [defects_answer(t) for t in truths]),
    ]
    logits, targets = answer_logits(model, text, merge(features.float()), None, "both", wording.system, asked)
    return answer_loss(logits, targets), int((targets != NO_LOSS).sum())


@torch.no_grad()
def held_out(model: Phi3V, text: Text, wording: Wording, pictures: Pictures, classes: list[str]) -> tuple[float, Score]:
    """Loss a token and score on pictures that are not learnt from."""
    score, total, count = Score(classes=classes), 0.0, 0
    for start in range(0, len(pictures.truths), 10):
        truths = pictures.truths[start : start + 10]
        features = pictures.features[start : start + 10, 0].float()
        loss, tokens = losses(model, text, wording, features, truths)
        total, count = total + loss.item(), count + tokens
        answers = generate(model, text, features, wording.system, [wording.serial, wording.defects])
        for serial, defects, truth in zip(*answers, truths):
            score.add(serial, defects, truth)
    return total / max(1, count), score


class Training:
    """An adapter in training. Each epoch's order and variants come from seed and epoch alone, so that a run that was
    interrupted ends where it would have ended."""

    def __init__(self, model: Phi3V, given: argparse.Namespace, wording: Wording, learnt: Pictures) -> None:
        self.model, self.given, self.wording, self.learnt = model, given, wording, learnt
        self.text = Text()
        self.adapted = lora.adapt(model, given.rank, given.alpha)
        self.parameters = [p for layer in self.adapted.values() for p in (layer.a, layer.b)]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=given.rate, weight_decay=0.01)
        self.epoch = 0
        self.steps_an_epoch = math.ceil(len(learnt.truths) / given.batch)

    def rate(self, step: int) -> float:
        """Share of the highest rate: a linear start over 20 steps, then a cosine down to 2 %."""
        progress = step / max(1, self.given.epochs * self.steps_an_epoch)
        return min(1.0, (step + 1) / 20) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * progress)))

    def run_epoch(self, bar: tqdm) -> float:
        """One pass over all pictures. Returns the mean loss a token."""
        random = torch.Generator().manual_seed(self.given.seed * 100_003 + self.epoch)
        order = torch.randperm(len(self.learnt.truths), generator=random)
        variant = torch.randint(self.learnt.features.shape[1], (len(order),), generator=random)
        total, count = 0.0, 0
        for number, indices in enumerate(order.split(self.given.batch)):
            truths = [self.learnt.truths[i] for i in indices]
            features = self.learnt.features[indices, variant[indices]]
            loss, tokens = losses(self.model, self.text, self.wording, features, truths)
            for group in self.optimiser.param_groups:
                group["lr"] = self.given.rate * self.rate(self.epoch * self.steps_an_epoch + number)
            self.optimiser.zero_grad()
            (loss / tokens).backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimiser.step()
            total, count = total + loss.item(), count + tokens
            bar.update(len(indices))
            bar.set_postfix(loss=f"{total / count:.4f}")
        self.epoch += 1
        return total / count

    def save(self, path: Path) -> None:
        """Writes a checkpoint so that an interruption leaves the old one or the new one."""
        values = {
            "adapter": lora.state(self.adapted),
            "optimiser": self.optimiser.state_dict(),
            "epoch": self.epoch,
            "options": fingerprint(self.given),
        }
        temporary = path.with_name(path.name + ".part")
        torch.save(values, temporary)
        temporary.replace(path)

    def resume(self, path: Path) -> None:
        """Goes on from a checkpoint of the same options."""
        try:
            values = torch.load(path, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as why:
            raise SetError(f"{path} is damaged; delete it to begin anew: {why}") from why
        if values["options"] != fingerprint(self.given):
            raise SetError(f"{path} was made with other options; delete it to begin anew, or give the same ones")
        lora.restore(self.adapted, values["adapter"])
        self.optimiser.load_state_dict(values["optimiser"])
        self.epoch = values["epoch"]


def fingerprint(given: argparse.Namespace) -> str:
    """What a checkpoint must have in common with the run that goes on from it."""
    names = ("rank", "alpha", "epochs", "batch", "rate", "variants", "holdout", "seed", "system", "serial", "defects")
    digest = hashlib.sha256((given.set / "truth.jsonl").read_bytes()).hexdigest()
    weights = hashlib.sha256((given.model / "model.safetensors").read_bytes()).hexdigest()
    return json.dumps([{name: getattr(given, name) for name in names}, digest, weights])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whole.add_argument("--model", type=Path, required=True, help="model folder, such as ../models/builtin")
    whole.add_argument("--set", type=Path, required=True, help="folder with truth.jsonl and its pictures of 336x336")
    whole.add_argument("--out", type=Path, required=True, help="adapter folder to write; the checkpoint stands beside it")
    whole.add_argument("--rank", type=int, default=8)
    whole.add_argument("--alpha", type=float, default=16)
    whole.add_argument("--epochs", type=int, default=20)
    whole.add_argument("--batch", type=int, default=10)
    whole.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    whole.add_argument("--variants", type=int, default=4, help="brightness variants of a picture; 150 kB each in memory")
    whole.add_argument("--holdout", type=float, default=0.1, help="share of the set that is not learnt from, but measured on")
    whole.add_argument("--every", type=int, default=5, help="epochs between two looks at the held-out pictures")
    whole.add_argument("--seed", type=int, default=1)
    whole.add_argument("--threads", type=int, default=1)
    whole.add_argument("--system", default=SYSTEMS[0], help="the station's system text")
    whole.add_argument("--serial", default=QUESTIONS["serial"][0], help="the station's question about the serial")
    whole.add_argument("--defects", default=QUESTIONS["defects"][0], help="the station's question about defects")
    return whole


def check(given: argparse.Namespace) -> None:
    """Refuses options that make no training, and a model that this code does not compute."""
    for name in ("rank", "epochs", "batch", "variants", "every", "threads"):
        if getattr(given, name) < 1:
            raise SetError(f"--{name} must be at least 1")
    if not (given.alpha > 0 and given.rate > 0 and 0 <= given.holdout < 1):
        raise SetError("--alpha and --rate must be above 0, --holdout from 0 to below 1")
    config = json.loads((given.model / "config.json").read_text(encoding="utf-8"))
    factors = config["rope_scaling"]["short_factor"]
    if config["num_key_value_heads"] != config["num_attention_heads"] or set(factors) != {1.0}:
        raise SetError(f"{given.model}: this script trains models of the built-in form; for others use PEFT itself")


def train(given: argparse.Namespace) -> None:
    """Learns, measures, writes."""
    check(given)
    truths, classes = read_set(given.set)
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    model = export.load(given.model)
    order = torch.randperm(len(truths)).tolist()
    apart = min(round(len(truths) * given.holdout), len(truths) - 1)
    pictures = look(model, given.set, truths, given.variants)
    learnt, kept = pictures.part(sorted(order[apart:])), pictures.part(sorted(order[:apart]))
    print(f"{len(learnt.truths)} pictures to learn from, {apart} held out; classes: {', '.join(classes)}", flush=True)

    wording = Wording(given.system, given.serial, given.defects)
    training = Training(model, given, wording, learnt)
    checkpoint = given.out.with_name(given.out.name + ".checkpoint.pt")
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        training.resume(checkpoint)
        print(f"goes on after epoch {training.epoch} of {given.epochs}, from {checkpoint}", flush=True)

    def tell(epoch: int, loss: float | None) -> None:
        told = "" if loss is None else f"loss {loss:.4f}  "
        if kept.truths and (epoch % given.every == 0 or epoch == given.epochs):
            apart_loss, score = held_out(model, training.text, wording, kept, classes)
            told += f"held out: loss {apart_loss:.4f}  {score}"
        if told:
            tqdm.write(f"epoch {epoch}  {told}", file=sys.stdout)
            sys.stdout.flush()

    if training.epoch == 0:
        tell(0, None)
    total = given.epochs * len(learnt.truths)
    with tqdm(total=total, initial=training.epoch * len(learnt.truths), desc="learning", unit="picture") as bar:
        while training.epoch < given.epochs:
            loss = training.run_epoch(bar)
            training.save(checkpoint)
            if training.epoch < given.epochs:
                tell(training.epoch, loss)
    finish(given, training, kept, classes)


def finish(given: argparse.Namespace, training: Training, kept: Pictures, classes: list[str]) -> None:
    """Rounds the adapter to f16, measures what is then left of it, and writes it."""
    rounded = {name: tensor.half() for name, tensor in lora.state(training.adapted).items()}
    lora.restore(training.adapted, rounded)
    if kept.truths:
        loss, score = held_out(training.model, training.text, training.wording, kept, classes)
        print(f"written adapter, held out: loss {loss:.4f}")
        for name, value in score.summary().items():
            print(f"  {name:28} {value:.4f}")
        print("  " + "  ".join(f"{name} F1 {score.f1(name):.4f}" for name in classes))
    lora.write(given.out, rounded, {"r": given.rank, "lora_alpha": given.alpha})
    size = (given.out / "adapter_model.safetensors").stat().st_size
    print(f"{given.out}: {size} bytes of weights. Try it: inspectd evaluate --set SET --adapter {given.out}")


def main() -> None:
    try:
        train(parser().parse_args())
    except (SetError, OSError) as why:
        raise SystemExit(f"finetune: {why}") from why


if __name__ == "__main__":
    main()
