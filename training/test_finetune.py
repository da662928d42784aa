"""What fine-tuning promises: bad sets are refused by file and line, an interrupted run ends like an uninterrupted one,
and what is written is what was learnt. Run: `python test_finetune.py`, or pytest."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from tqdm import tqdm

import export
import finetune
import lora
from labelled import SetError, read_picture, read_set
from model import Size
from prompts import QUESTIONS, SYSTEMS

BUILTIN = Path(__file__).resolve().parent.parent / "models/builtin"
GOOD = {
    "file": "a.png",
    "verdict": "fail",
    "serial": "A7K2M9PX",
    "defects": [
        {"class": "rust", "severity": "major", "location": "center"},
        {"class": "crack", "severity": "minor", "location": "lower left"},
        {"class": "crack", "severity": "minor", "location": "upper right"},
    ],
}


def folder(*lines: str) -> Path:
    made = Path(tempfile.mkdtemp())
    (made / "truth.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return made


def refused(line: str) -> str:
    try:
        read_set(folder(json.dumps(GOOD), line))
    except SetError as why:
        return str(why)
    raise AssertionError(f"{line} was taken")


def test_defects_are_learnt_in_the_order_of_answers_and_new_classes_come_last() -> None:
    truths, classes = read_set(folder(json.dumps(GOOD)))
    said = [f"{d['class']} {d['location']}" for d in truths[0]["defects"]]
    assert said == ["crack upper right", "crack lower left", "rust center"], said
    assert classes[-1] == "rust" and len(classes) == 6
    assert truths[0]["inspectable"] is True


def test_a_bad_line_is_refused_by_its_number() -> None:
    for field, value in [
        ("file", "../a.png"),
        ("file", 3),
        ("verdict", "good"),
        ("serial", ""),
        ("serial", 7),
        ("defects", None),
        ("defects", [{"severity": "major", "location": "center"}]),
        ("defects", [{"class": "rust", "severity": "bad", "location": "center"}]),
        ("defects", [{"class": "rust", "severity": "major", "location": "middle"}]),
        ("defects", [{"class": "rust", "severity": ["major"], "location": "center"}]),
        ("inspectable", "yes"),
    ]:
        told = refused(json.dumps({**GOOD, field: value}))
        assert "truth.jsonl:2: " in told, told
    for line in ["", "[]", "{", json.dumps({"file": "a.png"})]:
        assert "truth.jsonl:2: " in refused(line)
    try:
        read_picture(folder(), "a.png")
    except SetError as why:
        assert "a.png" in str(why)


def training(epochs: int) -> finetune.Training:
    """Four made-up pictures under the built-in model."""
    made = folder(*[json.dumps({**GOOD, "file": f"{i}.png", "serial": "ACDEFHJK"}) for i in range(4)])
    arguments = ["--model", str(BUILTIN), "--set", str(made), "--out", "x", "--rank", "2", "--batch", "3"]
    given = finetune.parser().parse_args([*arguments, "--epochs", str(epochs)])
    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    model = export.load(BUILTIN)
    features = torch.randn(4, 2, 576, Size().tower_width, generator=torch.Generator().manual_seed(3)).half()
    wording = finetune.Wording(SYSTEMS[0], QUESTIONS["serial"][0], QUESTIONS["defects"][0])
    return finetune.Training(model, given, wording, finetune.Pictures(features, read_set(made)[0]))


def test_an_interrupted_run_ends_where_it_would_have_ended() -> None:
    whole, begun = training(2), training(2)
    with tqdm(disable=True) as bar:
        first = [run.run_epoch(bar) for run in (whole, begun)]
        checkpoint = folder() / "checkpoint.pt"
        begun.save(checkpoint)
        resumed = training(2)
        resumed.resume(checkpoint)
        second = [run.run_epoch(bar) for run in (whole, resumed)]
    assert first[0] == first[1] and second[0] == second[1] and second[0] < first[0]
    for name, tensor in lora.state(whole.adapted).items():
        assert torch.equal(tensor, lora.state(resumed.adapted)[name]), name
    try:
        training(3).resume(checkpoint)
        raise AssertionError("a checkpoint of other options was taken")
    except SetError as why:
        assert "other options" in str(why)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    try:
        training(2).resume(checkpoint)
        raise AssertionError("a damaged checkpoint was taken")
    except SetError as why:
        assert "damaged" in str(why)


def test_the_folder_holds_what_was_learnt_and_the_base_is_untouched() -> None:
    run = training(1)
    before = {name: p.clone() for name, p in run.model.named_parameters() if not name.endswith((".a", ".b"))}
    with tqdm(disable=True) as bar:
        run.run_epoch(bar)
    assert all(torch.equal(before[name], p) for name, p in run.model.named_parameters() if name in before)
    out = folder()
    lora.write(out, lora.state(run.adapted), {"r": 2, "lora_alpha": 16.0})
    stored = load_file(out / "adapter_model.safetensors")
    assert len(stored) == 2 * 4 * Size().layers
    layer = run.adapted["model.layers.1.mlp.gate_up_proj"]
    assert torch.equal(stored["base_model.model.model.layers.1.mlp.gate_up_proj.lora_B.weight"], layer.b)
    assert layer.b.abs().max() > 0


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"{name}: ok")
