"""Trains the built-in model: `train.py tower`, then `decoder`, perhaps `joint`, then `export`."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch

from decoder import DecoderOptions, train_decoder
from export import export_checkpoint
from model import Phi3V, Size
from tower import TowerOptions, train_tower


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(description=__doc__)
    stages = whole.add_subparsers(dest="stage", required=True)
    helps = {
        "tower": "the tower alone, with a question for every patch",
        "decoder": "the decoder under a frozen tower",
        "joint": "both together",
    }
    for name, text in helps.items():
        stage = stages.add_parser(name, help=text)
        stage.add_argument("--data", type=Path, required=True, help="folder of shards")
        stage.add_argument("--out", type=Path, required=True, help="checkpoint to write")
        stage.add_argument("--minutes", type=float, default=25, help="budget of wall time")
        if name == "tower":
            stage.add_argument("--resume", type=Path, help="checkpoint to go on from")
        else:
            stage.add_argument("--start", type=Path, required=True, help="checkpoint of the stage before")
            stage.add_argument("--resume", action="store_true", help="--start is a checkpoint of this stage")
            stage.add_argument("--rate", type=float, default=1.0, help="factor on all learning rates")
    out = stages.add_parser("export", help="write the model folder")
    out.add_argument("--checkpoint", type=Path, help="left out: random weights")
    out.add_argument("--out", type=Path, required=True, help="folder to write")
    return whole


def main() -> None:
    given = parser().parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    if given.stage == "export":
        export_checkpoint(given.checkpoint, given.out)
        return
    model = Phi3V(Size())
    if given.stage == "tower":
        train_tower(model, TowerOptions(given.data, given.out, given.resume, given.minutes))
        return
    tower_share, dense_share = (0.4, 0.5) if given.stage == "joint" else (0.0, 0.0)
    options = DecoderOptions(
        data=given.data,
        out=given.out,
        start=given.start,
        minutes=given.minutes,
        tower_share=tower_share,
        dense_share=dense_share,
        fresh=not given.resume,
        rate=given.rate,
        # The joint stage is short and begins where the decoder's ended: with whole pictures often.
        middle_from=0.0 if given.stage == "joint" else 0.35,
    )
    train_decoder(model, options)


if __name__ == "__main__":
    main()
