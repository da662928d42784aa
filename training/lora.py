"""Low-rank adapters in the layout of PEFT: put into a model for training, written to a folder.

An adapted layer computes `y = W x + scale * B (A x)` with `scale = alpha / rank`. W stays as it is.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from model import Phi3V

# The layers of a decoder block that the daemon adapts, as they are called in the published checkpoint.
TARGETS = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")


class Adapted(nn.Module):
    """A linear layer with an adapter beside it. A begins random and B zero, so that at first nothing changes."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.a), self.b) * self.scale


def adapt(model: Phi3V, rank: int, alpha: float) -> dict[str, Adapted]:
    """Freezes the model and puts an adapter beside each target of its decoder. Returns them by module name."""
    model.requires_grad_(False)
    adapted: dict[str, Adapted] = {}
    for number, layer in enumerate(model.model.layers):
        for target in TARGETS:
            block, name = target.split(".")
            parent = getattr(layer, block)
            wrapped = Adapted(getattr(parent, name), rank, alpha)
            setattr(parent, name, wrapped)
            adapted[f"model.layers.{number}.{target}"] = wrapped
    return adapted


def state(adapted: dict[str, Adapted]) -> dict[str, Tensor]:
    """The adapter's tensors under the names that PEFT gives them."""
    tensors: dict[str, Tensor] = {}
    for module, layer in adapted.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = layer.a.detach()
        tensors[f"base_model.model.{module}.lora_B.weight"] = layer.b.detach()
    return tensors


@torch.no_grad()
def restore(adapted: dict[str, Adapted], tensors: dict[str, Tensor]) -> None:
    """Puts tensors as `state` returns them back."""
    for name, tensor in state(adapted).items():
        tensor.copy_(tensors[name])


def write(folder: Path, tensors: dict[str, Tensor], config: dict) -> None:
    """Writes the two files of an adapter. `config` holds what differs from PEFT's defaults, r and lora_alpha at least."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "rank_pattern": {},
        "revision": None,
        "target_modules": sorted(target.split(".")[1] for target in TARGETS),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
        **config,
    }
    text = json.dumps(whole, indent=2, sort_keys=True) + "\n"
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    weights = folder / "adapter_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
