"""Makes the adapters and numbers that the engine's own adapters are held against: `lora_reference.py`.

Two small random adapters for `tests/fixtures/tiny_gqa`, and what that model answers with them: a decoder written here
from the published description, in f64, that shares no code with the engine. Before anything is written it must repeat
the stored tensors of the model without an adapter, which the publisher's own code made.

`plain` adapts every layer of every block at one rank. `patterned` has everything that changes rank, factor or choice
of a layer: a pattern for the targets, other ranks and alphas for some of them, rank-stabilised factors, f16 weights.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

import lora

FIXTURE = Path(__file__).resolve().parent.parent / "tests/fixtures/tiny_gqa"
STEPS = 6
CASES = ["gqa_text_short", "gqa_text_over32", "gqa_two_images_nc1"]
PLAIN = {"r": 3, "lora_alpha": 9}
PATTERNED = {
    "r": 4,
    "lora_alpha": 6,
    "target_modules": r"^(?!.*vision).*\.(self_attn\.(qkv|o)_proj|layers\.1\..*|0\.mlp\.down_proj)$",
    "rank_pattern": {"layers.0.self_attn.qkv_proj": 2, "self_attn.*": 5},
    "alpha_pattern": {r"layers\.[12]\.self_attn\.o_proj": 11, "o_proj": 3.5},
    "use_rslora": True,
}
ORDINARY = {"use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
ALL = [target.split(".")[1] for target in lora.TARGETS]


def config() -> dict:
    """The model's numbers."""
    return json.loads((FIXTURE / "config.json").read_text(encoding="utf-8"))


def sides(numbers: dict, target: str) -> tuple[int, int]:
    """Inputs and outputs of a layer."""
    width, inner = numbers["hidden_size"], numbers["intermediate_size"]
    heads, pairs = numbers["num_attention_heads"], numbers["num_key_value_heads"]
    head = width // heads
    return {
        "self_attn.qkv_proj": (width, (heads + 2 * pairs) * head),
        "self_attn.o_proj": (width, width),
        "mlp.gate_up_proj": (width, 2 * inner),
        "mlp.down_proj": (inner, width),
    }[target]


def of_pattern(patterns: dict, name: str, otherwise: float) -> float:
    """The value of the first pattern that fits the end of the name, at a dot."""
    fits = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name))
    return next(fits, otherwise)


def strength(given: dict, name: str) -> tuple[int, float]:
    """Rank and factor of a layer."""
    rank = int(of_pattern(given["rank_pattern"], name, given["r"]))
    alpha = of_pattern(given["alpha_pattern"], name, given["lora_alpha"])
    return rank, alpha / (math.sqrt(rank) if given["use_rslora"] else rank)


def is_target(given: dict, name: str) -> bool:
    """Whether the layer is adapted."""
    wanted = given["target_modules"]
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in wanted)


def roll(given: dict, dtype: torch.dtype, random: torch.Generator) -> dict[str, Tensor]:
    """Random matrices for every adapted layer, strong enough that a mistake shows."""
    numbers, tensors = config(), {}
    for layer in range(numbers["num_hidden_layers"]):
        for target in lora.TARGETS:
            name = f"model.layers.{layer}.{target}"
            if not is_target(given, name):
                continue
            rank = strength(given, name)[0]
            inputs, outputs = sides(numbers, target)
            a = torch.randn(rank, inputs, generator=random) / math.sqrt(inputs)
            b = torch.randn(outputs, rank, generator=random) * 0.1
            tensors[f"base_model.model.{name}.lora_A.weight"] = a.to(dtype)
            tensors[f"base_model.model.{name}.lora_B.weight"] = b.to(dtype)
    return tensors


class Decoder:
    """The published text decoder in f64, whole sequence each time, with or without an adapter."""

    def __init__(self, given: dict | None, tensors: dict[str, Tensor]) -> None:
        self.numbers, self.given = config(), given
        self.weights = {name: t.double() for name, t in load_file(FIXTURE / "model.safetensors").items()}
        self.tensors = {name: t.double() for name, t in tensors.items()}

    def linear(self, name: str, x: Tensor) -> Tensor:
        """W x, and what the adapter adds."""
        y = F.linear(x, self.weights[f"{name}.weight"])
        a = self.tensors.get(f"base_model.model.{name}.lora_A.weight")
        if a is None:
            return y
        b = self.tensors[f"base_model.model.{name}.lora_B.weight"]
        return y + F.linear(F.linear(x, a), b) * strength(self.given, name)[1]

    def norm(self, name: str, x: Tensor) -> Tensor:
        scaled = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.numbers["rms_norm_eps"])
        return scaled * self.weights[f"{name}.weight"]

    def turns(self, count: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine (count, head). Angles are f32, as published."""
        numbers = self.numbers
        head = numbers["hidden_size"] // numbers["num_attention_heads"]
        original, most = numbers["original_max_position_embeddings"], numbers["max_position_embeddings"]
        scaling = numbers["rope_scaling"]
        factors = torch.tensor(scaling["long_factor" if count > original else "short_factor"])
        rate = 1 / (factors * numbers["rope_theta"] ** (torch.arange(0, head, 2).float() / head))
        angle = torch.arange(count).float()[:, None] * torch.cat([rate, rate])
        factor = math.sqrt(1 + math.log(most / original) / math.log(original))
        return angle.cos().double() * factor, angle.sin().double() * factor

    def attend(self, name: str, x: Tensor) -> Tensor:
        count, width = x.shape
        heads, pairs = self.numbers["num_attention_heads"], self.numbers["num_key_value_heads"]
        head = width // heads
        q, k, v = self.linear(f"{name}.qkv_proj", x).split([width, pairs * head, pairs * head], -1)
        cos, sin = self.turns(count)

        def split(part: Tensor, rotate: bool) -> Tensor:
            part = part.view(count, -1, head).transpose(0, 1)  # (heads, count, head)
            if not rotate:
                return part
            first, second = part.chunk(2, -1)
            return part * cos + torch.cat([-second, first], -1) * sin

        q, k, v = split(q, True), split(k, True), split(v, False)
        k, v = (part.repeat_interleave(heads // pairs, 0) for part in (k, v))
        scores = q @ k.transpose(1, 2) / math.sqrt(head)
        scores = scores + torch.full((count, count), float("-inf"), dtype=torch.double).triu(1)
        mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(count, width)
        return self.linear(f"{name}.o_proj", mixed)

    def logits(self, x: Tensor) -> Tensor:
        """Embeddings (count, width) to the logits that follow the last of them."""
        for layer in range(self.numbers["num_hidden_layers"]):
            name = f"model.layers.{layer}"
            x = x + self.attend(f"{name}.self_attn", self.norm(f"{name}.input_layernorm", x))
            gate, up = self.linear(f"{name}.mlp.gate_up_proj", self.norm(f"{name}.post_attention_layernorm", x)).chunk(2, -1)
            x = x + self.linear(f"{name}.mlp.down_proj", F.silu(gate) * up)
        return F.linear(self.norm("model.norm", x[-1]), self.weights["lm_head.weight"])

    def embed(self, ids: Tensor, pictures: Tensor) -> Tensor:
        """Ids to embeddings; negative ids take the pictures' rows, one after the other."""
        x = self.weights["model.embed_tokens.weight"][ids.clamp(min=0)]
        x[ids < 0] = pictures
        return x

    def steps(self, case: Path, first: list[int], count: int) -> tuple[list[int], Tensor]:
        """The likeliest ids after a stored prompt, and the logits that they were taken from (count, vocab)."""
        stored = case / "image_embeds.npy"
        width = self.numbers["hidden_size"]
        pictures = torch.from_numpy(np.load(stored)).double() if stored.exists() else torch.zeros(0, width).double()
        ids, chosen, rows = list(first), [], []
        for _ in range(count):
            rows.append(self.logits(self.embed(torch.tensor(ids), pictures)))
            chosen.append(int(rows[-1].argmax()))
            ids.append(chosen[-1])
        return chosen, torch.stack(rows)


def prompt(case: Path) -> list[int]:
    return [int(i) for i in np.load(case / "input_ids.npy").reshape(-1)]


def check_base(cases: Path) -> None:
    """The decoder here must repeat the publisher's numbers."""
    base = Decoder(None, {})
    for name in CASES:
        logits = base.steps(cases / name, prompt(cases / name), 1)[1][0]
        stored = torch.from_numpy(np.load(cases / name / "logits_last.npy")).double().reshape(-1)
        stride = round(len(logits) / len(stored))
        worst = (logits[::stride] - stored).abs().max().item()
        print(f"{name}: without an adapter within {worst:.1e} of the publisher's code")
        assert worst < 2e-5, name


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    cases = FIXTURE / "reference/cases"
    check_base(cases)
    random = torch.Generator().manual_seed(7)
    tensors, greedy = {}, {}
    for name, changes, dtype in [("plain", PLAIN, torch.float32), ("patterned", PATTERNED, torch.float16)]:
        given = {**ORDINARY, "target_modules": ALL, **changes}
        adapter = roll(given, dtype, random)
        lora.write(FIXTURE / "adapters" / name, adapter, changes)
        decoder = Decoder(given, adapter)
        for case in CASES:
            ids, rows = decoder.steps(cases / case, prompt(cases / case), STEPS)
            greedy[f"{name}/{case}"] = ids
            tensors[f"{name}/{case}"] = rows.float()
            margin = (rows.topk(2).values @ torch.tensor([1.0, -1.0]).double()).min().item()
            print(f"{name}, {case}: {ids}, least margin {margin:.3f}")
    folder = FIXTURE / "reference"
    save_file(tensors, folder / "adapters.safetensors")
    (folder / "adapters.safetensors").chmod(0o644)
    (folder / "adapters.json").write_text(json.dumps(greedy, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
