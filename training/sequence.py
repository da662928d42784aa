"""Puts a picture, questions and answers into one sequence, and generates answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model import IMAGE_TOKENS, Phi3V, merge
from prompts import after_image, before_image
from tokenizer import Text

NO_LOSS = -100


@dataclass
class Asked:
    """One question about every picture of a batch, and the answer to each."""

    question: str
    answers: list[str]


@dataclass
class Segment:
    """A question with its answers as ids: what goes in (batch, n) and what should come out (batch, n)."""

    inputs: Tensor
    targets: Tensor


def segment(text: Text, asked: Asked) -> Segment:
    """Question and answer, padded to the longest answer; the loss is on the answer only."""
    question = text.piece(after_image(asked.question))
    answers = [text.answer(answer) for answer in asked.answers]
    longest = max(map(len, answers))
    inputs = torch.zeros(len(answers), len(question) + longest - 1, dtype=torch.long)
    targets = torch.full_like(inputs, NO_LOSS)
    for row, answer in enumerate(answers):
        ids = torch.tensor(question + answer[:-1])
        inputs[row, : len(ids)] = ids
        targets[row, len(question) - 1 : len(question) - 1 + len(answer)] = torch.tensor(answer)
    return Segment(inputs, targets)


def image_part(
    model: Phi3V, blocks: Tensor, kept: Tensor | None, prefix: list[int], views: str = "both"
) -> tuple[Tensor, Tensor]:
    """Prefix and image: embeddings (batch, n, width) and positions (batch, n)."""
    image, places = model.model.vision_embed_tokens.tokens(blocks, kept, views)
    start = model.model.embed_tokens(torch.tensor(prefix)).expand(len(blocks), -1, -1)
    first = torch.arange(len(prefix)).expand(len(blocks), -1)
    return torch.cat([start, image], 1), torch.cat([first, places + len(prefix)], 1)


def answer_logits(
    model: Phi3V, text: Text, blocks: Tensor, kept: Tensor | None, views: str, system: str, asked: list[Asked]
) -> tuple[Tensor, Tensor]:
    """Logits and targets of the questions' segments, one after the other.

    The picture is in the sequence once. Each question follows it at the same positions and sees the picture and
    itself, not the other questions: what it would see alone.
    """
    prefix = text.piece(before_image(system))
    x, positions = image_part(model, blocks, kept, prefix, views)
    shared = x.shape[1]
    segments = [segment(text, a) for a in asked]
    lengths = [s.inputs.shape[1] for s in segments]
    x = torch.cat([x, *(model.model.embed_tokens(s.inputs) for s in segments)], 1)
    after = len(prefix) + IMAGE_TOKENS
    positions = torch.cat([positions, *((after + torch.arange(n)).expand(len(x), -1) for n in lengths)], 1)
    owner = torch.cat([torch.zeros(shared), *(torch.full((n,), i + 1.0) for i, n in enumerate(lengths))])
    seen = (owner[None] == 0) | (owner[None] == owner[:, None])
    order = torch.arange(len(owner))
    mask = torch.zeros(len(owner), len(owner)).masked_fill(~(seen & (order[None] <= order[:, None])), float("-inf"))
    logits = model.decode(x, positions, mask, sum(lengths))
    return logits, torch.cat([s.targets for s in segments], 1)


def answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Summed cross entropy over the answers' tokens."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_LOSS, reduction="sum")


@torch.no_grad()
def generate(
    model: Phi3V, text: Text, features: Tensor, system: str, questions: list[str], limit: int = 40
) -> list[list[str]]:
    """The answers to each question about a batch of pictures: the likeliest token each time, no grammar.

    Prompt and picture are read once; every question goes on from there, as the daemon does it.
    """
    prefix = text.piece(before_image(system))
    x, positions = image_part(model, merge(features), None, prefix)
    shared: list[dict] = [{} for _ in model.model.layers]
    model.decode(x, positions, causal(x.shape[1], x.shape[1]), 1, shared)
    return [_continue(model, text, [dict(cache) for cache in shared], question, limit) for question in questions]


def causal(queries: int, keys: int) -> Tensor:
    """Mask (queries, keys) for queries that are the last of the keys."""
    return torch.full((queries, keys), float("-inf")).triu(keys - queries + 1)


def _continue(model: Phi3V, text: Text, caches: list[dict], question: str, limit: int) -> list[str]:
    """Asks one question after what the caches hold, and writes the answers."""
    batch, past = caches[0]["k"].shape[0], caches[0]["k"].shape[2]
    ids = torch.tensor(text.piece(after_image(question))).expand(batch, -1)
    end = past + ids.shape[1]
    positions = torch.arange(past, end).expand(batch, -1)
    logits = model.decode(model.model.embed_tokens(ids), positions, causal(ids.shape[1], end), 1, caches)
    written: list[Tensor] = []
    for position in range(end, end + limit):
        written.append(logits[:, -1].argmax(-1))
        if all(text.end in row for row in torch.stack(written, 1).tolist()):
            break
        x = model.model.embed_tokens(written[-1])[:, None]
        logits = model.decode(x, torch.full((batch, 1), position), None, 1, caches)
    return [text.decode(row) for row in torch.stack(written, 1).tolist()]
