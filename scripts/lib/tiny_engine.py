"""Makes two GGUF files of random weights for llama.cpp's server: a language model of a few hundred kB whose
tokens are bytes and a few pieces, and a vision projector of the LLaVA kind. They answer nonsense, in form.

    python tiny_engine.py FOLDER      writes FOLDER/text.gguf and FOLDER/mmproj.gguf
"""

import sys
from pathlib import Path

import gguf
import numpy as np

DIM, HEADS, LAYERS, INNER, CONTEXT = 64, 4, 2, 128, 8192
IMAGE, PATCH = 56, 14
PIECES = [
    "▁", "true", "false", "null", "legible", "serial", "defects", "inspectable", "class", "severity",
    "location", "minor", "major", "unclear", "center", "scratch", "dent", "red", "green", "blue", "colour",
    "A7", "K2", "12", "34",
]
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"
)


def weights(random, *shape):
    return random.normal(0.0, 0.3 / np.sqrt(shape[-1]) * 4, shape).astype(np.float32)


def text(path, random):
    tokens = [b"<unk>", b"<s>", b"</s>"]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    tokens += [b"<0x%02X>" % byte for byte in range(256)]
    kinds += [gguf.TokenType.BYTE] * 256
    tokens += [piece.encode() for piece in PIECES]
    kinds += [gguf.TokenType.NORMAL] * len(PIECES)
    file = gguf.GGUFWriter(path, "llama")
    file.add_name("tiny-vl")
    file.add_context_length(CONTEXT)
    file.add_embedding_length(DIM)
    file.add_block_count(LAYERS)
    file.add_feed_forward_length(INNER)
    file.add_head_count(HEADS)
    file.add_head_count_kv(HEADS)
    file.add_rope_dimension_count(DIM // HEADS)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("llama")
    file.add_token_list(tokens)
    file.add_token_scores([0.0] * 3 + [-1000.0] * 256 + [-float(at) for at in range(len(PIECES))])
    file.add_token_types(kinds)
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_unk_token_id(0)
    file.add_chat_template(TEMPLATE)
    file.add_tensor("token_embd.weight", weights(random, len(tokens), DIM))
    file.add_tensor("output_norm.weight", np.ones(DIM, np.float32))
    file.add_tensor("output.weight", weights(random, len(tokens), DIM))
    for at in range(LAYERS):
        block = f"blk.{at}."
        for name in ("attn_norm", "ffn_norm"):
            file.add_tensor(block + name + ".weight", np.ones(DIM, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            file.add_tensor(block + name + ".weight", weights(random, DIM, DIM))
        for name in ("ffn_gate", "ffn_up"):
            file.add_tensor(block + name + ".weight", weights(random, INNER, DIM))
        file.add_tensor(block + "ffn_down.weight", weights(random, DIM, INNER))
    finish(file)


def vision(path, random):
    file = gguf.GGUFWriter(path, "clip")
    file.add_bool("clip.has_vision_encoder", True)
    file.add_string("clip.projector_type", "mlp")
    file.add_bool("clip.use_gelu", True)
    numbers = {
        "image_size": IMAGE, "patch_size": PATCH, "embedding_length": DIM, "feed_forward_length": INNER,
        "block_count": LAYERS, "projection_dim": DIM, "attention.head_count": HEADS,
    }
    for name, number in numbers.items():
        file.add_uint32("clip.vision." + name, number)
    file.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    file.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    file.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    patches = (IMAGE // PATCH) ** 2
    file.add_tensor("v.class_embd", weights(random, DIM))
    file.add_tensor("v.patch_embd.weight", weights(random, DIM, 3, PATCH, PATCH))
    file.add_tensor("v.position_embd.weight", weights(random, patches + 1, DIM))
    norm(file, "v.pre_ln")
    for at in range(LAYERS):
        block = f"v.blk.{at}."
        for name in ("ln1", "ln2"):
            norm(file, block + name)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            linear(file, block + name, random, DIM, DIM)
        linear(file, block + "ffn_up", random, INNER, DIM)
        linear(file, block + "ffn_down", random, DIM, INNER)
    linear(file, "mm.0", random, DIM, DIM)
    linear(file, "mm.2", random, DIM, DIM)
    finish(file)


def norm(file, name):
    file.add_tensor(name + ".weight", np.ones(DIM, np.float32))
    file.add_tensor(name + ".bias", np.zeros(DIM, np.float32))


def linear(file, name, random, rows, columns):
    file.add_tensor(name + ".weight", weights(random, rows, columns))
    file.add_tensor(name + ".bias", np.zeros(rows, np.float32))


def finish(file):
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    text(folder / "text.gguf", np.random.default_rng(7))
    vision(folder / "mmproj.gguf", np.random.default_rng(8))
