"""The published Phi-3-vision architecture at a small size, with the published names of all tensors.

Only what training needs is here: the tower can look at a subset of its patches, and the decoder can answer two
questions about one picture in one pass. At one crop and 336 px the tile and the global view are the same
pixels, so the tower runs once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = 24  # patches along a side
BLOCKS = 12  # merged 2x2 blocks along a side
ROW = BLOCKS + 1  # a row of blocks and its newline
VIEW = BLOCKS * ROW  # tokens of one view
IMAGE_TOKENS = 2 * VIEW + 1

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass(frozen=True)
class Size:
    """Numbers of config.json."""

    vocab: int = 768
    tower_width: int = 128
    tower_heads: int = 4
    tower_hidden: int = 512
    tower_layers: int = 6  # the last one is in the file but unused, as published
    width: int = 192
    heads: int = 3
    hidden: int = 512
    layers: int = 4


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, width) to (batch, heads, tokens, width / heads)."""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, heads, width // heads).transpose(1, 2)


class TowerAttention(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.tower_heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear = nn.Linear(size.tower_width, size.tower_width)
            nn.init.zeros_(linear.bias)
            self.add_module(name, linear)
        nn.init.normal_(self.out_proj.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(linear(x), self.heads) for linear in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TowerFeedForward(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size.tower_width, size.tower_hidden)
        self.fc2 = nn.Linear(size.tower_hidden, size.tower_width)
        nn.init.normal_(self.fc2.weight, std=0.02)
        nn.init.zeros_(self.fc1.bias)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        # quick_gelu: x * sigmoid(1.702 x), by way of the fused silu.
        return self.fc2(F.silu(1.702 * self.fc1(x)) * (1 / 1.702))


class TowerLayer(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(size.tower_width, eps=1e-5)
        self.self_attn = TowerAttention(size)
        self.layer_norm2 = nn.LayerNorm(size.tower_width, eps=1e-5)
        self.mlp = TowerFeedForward(size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


def sine_positions(width: int) -> Tensor:
    """(577, width): row 0 for the class token is zero, the others tell row and column by sines."""
    rate = 100.0 ** -(torch.arange(width // 4) / (width // 4))
    angle = torch.arange(GRID)[:, None] * rate
    line = torch.cat([angle.sin(), angle.cos()], 1)
    rows = line[:, None].expand(GRID, GRID, -1)
    columns = line[None].expand(GRID, GRID, -1)
    return torch.cat([torch.zeros(1, width), 0.5 * torch.cat([rows, columns], -1).reshape(GRID * GRID, width)])


class Embeddings(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(size.tower_width) * 0.02)
        self.patch_embedding = nn.Conv2d(3, size.tower_width, 14, 14, bias=False)
        self.position_embedding = nn.Embedding(GRID * GRID + 1, size.tower_width)
        self.position_embedding.weight.data.copy_(sine_positions(size.tower_width))

    def forward(self, patches: Tensor, kept: Tensor | None) -> Tensor:
        """patches (batch, n, 588), which of the 576 they are (batch, n) or all."""
        x = patches @ self.patch_embedding.weight.flatten(1).T
        positions = self.position_embedding.weight
        x = x + (positions[1:] if kept is None else positions[1:][kept])
        first = (self.class_embedding + positions[0]).expand(len(x), 1, -1)
        return torch.cat([first, x], 1)


class VisionModel(nn.Module):
    """CLIP without its last layer: patches to features, both (batch, n, ·)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embeddings = Embeddings(size)
        self.pre_layrnorm = nn.LayerNorm(size.tower_width, eps=1e-5)  # sic, as published
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList([TowerLayer(size) for _ in range(size.tower_layers)])
        self.post_layernorm = nn.LayerNorm(size.tower_width, eps=1e-5)

    def forward(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        x = self.pre_layrnorm(self.embeddings(patches, kept))
        for layer in self.encoder.layers[:-1]:
            x = layer(x)
        return x[:, 1:]


class VisionEmbedding(nn.Module):
    """Tower, 2x2 merge, separators and projector."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        merged = 4 * size.tower_width
        self.img_processor = nn.Module()
        self.img_processor.vision_model = VisionModel(size)
        self.glb_GN = nn.Parameter(torch.randn(1, 1, merged) * 3)
        self.sub_GN = nn.Parameter(torch.randn(1, 1, 1, merged) * 3)
        self.img_projection = nn.Sequential(
            nn.Linear(merged, size.width), nn.GELU(), nn.Linear(size.width, size.width)
        )

    def tokens(self, blocks: Tensor, kept: Tensor | None = None, views: str = "both") -> tuple[Tensor, Tensor]:
        """Merged blocks (batch, n, 4 x tower width) to image tokens and their places within the image.

        `kept` (batch, n) says which of the 144 blocks are there; without it all are, in order. `views` is "both"
        as published, or "tile" or "global": training may leave one of the two equal views out.
        """
        batch, _, merged = blocks.shape
        if kept is None:
            kept = torch.arange(BLOCKS * BLOCKS).expand(batch, -1)
        newlines = self.sub_GN.view(1, 1, merged).expand(batch, BLOCKS, merged)
        rows = self.img_projection(torch.cat([blocks, newlines, self.glb_GN.expand(batch, 1, merged)], 1))
        ends = (torch.arange(BLOCKS) * ROW + BLOCKS).expand(batch, -1)
        places, order = torch.cat([kept // BLOCKS * ROW + kept % BLOCKS, ends], 1).sort(1)
        view = torch.gather(rows[:, :-1], 1, order[..., None].expand(-1, -1, rows.shape[-1]))
        tile, middle, whole = (
            (view, places),
            (rows[:, -1:], torch.full((batch, 1), VIEW)),
            (view, places + VIEW + 1),
        )
        chosen = {"both": [tile, middle, whole], "tile": [tile, middle], "global": [middle, whole]}[views]
        return torch.cat([part for part, _ in chosen], 1), torch.cat([where for _, where in chosen], 1)


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-5)


def rotation(positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine (batch, 1, tokens, width) of RoPE, first half against second half, theta 10,000."""
    rate = 10000.0 ** -(torch.arange(0, width, 2) / width)
    angle = positions[:, None, :, None] * torch.cat([rate, rate])
    return angle.cos(), angle.sin()


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * turn[0] + torch.cat([-second, first], -1) * turn[1]


class DecoderAttention(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.qkv_proj = nn.Linear(size.width, 3 * size.width, bias=False)
        self.o_proj = nn.Linear(size.width, size.width, bias=False)
        nn.init.normal_(self.o_proj.weight, std=0.02)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, tail: int, cache: dict | None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv_proj(x).chunk(3, -1))
        q, k = rotate(q, turn), rotate(k, turn)
        if cache is not None:
            if cache:
                k, v = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
            cache.update(k=k, v=v)
        q = q[:, :, -tail:]
        return self.o_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class DecoderFeedForward(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(size.width, 2 * size.hidden, bias=False)
        self.down_proj = nn.Linear(size.hidden, size.width, bias=False)
        nn.init.normal_(self.down_proj.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, -1)
        return self.down_proj(F.silu(gate) * up)


class DecoderLayer(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(size.width)
        self.self_attn = DecoderAttention(size)
        self.post_attention_layernorm = RmsNorm(size.width)
        self.mlp = DecoderFeedForward(size)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None, tail: int, cache: dict | None) -> Tensor:
        """Only the last `tail` tokens come out; earlier ones serve as keys and values."""
        x = x[:, -tail:] + self.self_attn(self.input_layernorm(x), turn, None if mask is None else mask[-tail:], tail, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class TextModel(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(size.vocab, size.width)
        nn.init.normal_(self.embed_tokens.weight, std=0.5)
        self.vision_embed_tokens = VisionEmbedding(size)
        self.layers = nn.ModuleList([DecoderLayer(size) for _ in range(size.layers)])
        self.norm = RmsNorm(size.width)


class Phi3V(nn.Module):
    """The whole model; `state_dict()` has the published names and shapes."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.model = TextModel(size)
        self.lm_head = nn.Linear(size.width, size.vocab, bias=False)
        nn.init.normal_(self.lm_head.weight, std=0.02)

    @property
    def tower(self) -> VisionModel:
        return self.model.vision_embed_tokens.img_processor.vision_model

    def decode(self, x: Tensor, positions: Tensor, mask: Tensor | None, tail: int, caches: list[dict] | None = None) -> Tensor:
        """Embeddings (batch, tokens, width) at positions (batch, tokens) to logits of the last `tail` tokens."""
        turn = rotation(positions, self.size.width // self.size.heads)
        for i, layer in enumerate(self.model.layers):
            last = i + 1 == len(self.model.layers)
            x = layer(x, turn, mask, tail if last else x.shape[1], None if caches is None else caches[i])
        return self.lm_head(self.model.norm(x))


# Which patches a merged block holds, in the order of the published merge: (144, 4).
BLOCK_PATCHES = torch.stack(
    [
        (torch.arange(144) // BLOCKS * 2 + dy) * GRID + torch.arange(144) % BLOCKS * 2 + dx
        for dy in (0, 1)
        for dx in (0, 1)
    ],
    1,
)


def merge(features: Tensor) -> Tensor:
    """All 576 features (batch, 576, width) to merged blocks (batch, 144, 4 x width)."""
    return features[:, BLOCK_PATCHES].flatten(2)


def cut_patches(pictures: Tensor, kept: Tensor | None = None, gain: Tensor | None = None) -> Tensor:
    """Pictures (batch, 336, 336, 3) of bytes to normalised patches (batch, n, 588), channel first as the convolution has it.

    `gain` (batch, 3) multiplies the channels before normalisation.
    """
    batch = len(pictures)
    x = pictures.view(batch, GRID, 14, GRID, 14, 3).permute(0, 1, 3, 5, 2, 4).reshape(batch, GRID * GRID, 588)
    if kept is not None:
        x = torch.gather(x, 1, kept[..., None].expand(-1, -1, 588))
    scale = (1 / 255 / STD if gain is None else gain / 255 / STD).view(-1, 1, 3, 1)
    x = x.view(batch, -1, 3, 196).float() * scale - (MEAN / STD).view(1, 1, 3, 1)
    return x.flatten(2)
