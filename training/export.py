"""Writes the model folder in the published layout: config files, tokenizer, weights in f16."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import tokenizer
from model import MEAN, STD, Phi3V, Size

POSITIONS = 4096


def config(size: Size, ids: dict[str, int]) -> dict:
    """config.json, field for field as published; only sizes and ids differ."""
    factors = [1.0] * (size.width // size.heads // 2)
    return {
        "architectures": ["Phi3VForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "embd_layer": {
            "embedding_cls": "image",
            "hd_transform_order": "sub_glb",
            "projection_cls": "mlp",
            "use_hd_transform": True,
            "with_learnable_separator": True,
        },
        "embd_pdrop": 0.0,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": size.width,
        "img_processor": {
            "image_dim_out": size.tower_width,
            "model_name": "openai/clip-vit-large-patch14-336",
            "name": "clip_vision_model",
            "num_img_tokens": 144,
            "vision_config": {
                "attention_dropout": 0.0,
                "hidden_act": "quick_gelu",
                "hidden_size": size.tower_width,
                "image_size": 336,
                "intermediate_size": size.tower_hidden,
                "layer_norm_eps": 1e-5,
                "num_attention_heads": size.tower_heads,
                "num_channels": 3,
                "num_hidden_layers": size.tower_layers,
                "patch_size": 14,
                "projection_dim": size.tower_width,
            },
        },
        "initializer_range": 0.02,
        "intermediate_size": size.hidden,
        "max_position_embeddings": POSITIONS,
        "model_type": "phi3_v",
        "num_attention_heads": size.heads,
        "num_hidden_layers": size.layers,
        "num_key_value_heads": size.heads,
        "original_max_position_embeddings": POSITIONS,
        "pad_token_id": ids["<|endoftext|>"],
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-5,
        "rope_scaling": {"long_factor": factors, "short_factor": factors, "type": "su"},
        "rope_theta": 10000.0,
        "sliding_window": POSITIONS,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": size.vocab,
    }


def preprocessor() -> dict:
    """preprocessor_config.json: one crop, so a picture is 313 tokens."""
    return {
        "image_mean": [round(v, 8) for v in MEAN.tolist()],
        "image_processor_type": "Phi3VImageProcessor",
        "image_std": [round(v, 8) for v in STD.tolist()],
        "num_crops": 1,
        "num_img_tokens": 144,
        "processor_class": "Phi3VProcessor",
    }


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def export(model: Phi3V, folder: Path) -> str:
    """Writes the folder; returns the SHA-256 of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.write(folder)
    ids = {t["content"]: t["id"] for t in tokenizer.definition()["added_tokens"]}
    write_json(folder / "config.json", config(model.size, ids))
    write_json(folder / "preprocessor_config.json", preprocessor())
    ends = [ids["<|endoftext|>"], ids["<|assistant|>"], ids["<|end|>"]]
    generation = {"bos_token_id": 1, "eos_token_id": ends, "pad_token_id": ids["<|endoftext|>"]}
    write_json(folder / "generation_config.json", generation)
    state = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    unused = (f"encoder.layers.{model.size.tower_layers - 1}.", "post_layernorm")
    for name, tensor in state.items():
        assert tensor.isfinite().all(), f"{name} does not fit f16"
        if any(part in name for part in unused):
            tensor.zero_()  # present for the layout's sake
    weights = folder / "model.safetensors"
    save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def load(folder: Path) -> Phi3V:
    """The model of an exported folder, its f16 weights widened to f32."""
    given = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    vision = given["img_processor"]["vision_config"]
    model = Phi3V(
        Size(
            vocab=given["vocab_size"],
            tower_width=vision["hidden_size"],
            tower_heads=vision["num_attention_heads"],
            tower_hidden=vision["intermediate_size"],
            tower_layers=vision["num_hidden_layers"],
            width=given["hidden_size"],
            heads=given["num_attention_heads"],
            hidden=given["intermediate_size"],
            layers=given["num_hidden_layers"],
        )
    )
    state = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(state)
    return model.eval()


def export_checkpoint(checkpoint: Path | None, folder: Path) -> None:
    """Exports a training checkpoint, or random weights without one."""
    model = Phi3V(Size())
    if checkpoint:
        model.load_state_dict(torch.load(checkpoint)["model"])
    print(f"{folder}/model.safetensors  sha256 {export(model, folder)}")
