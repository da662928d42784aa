"""Makes the built-in model's tokenizer: the published structure with a vocabulary of a few hundred pieces.

Two rules shape it. A serial's characters stay alone: no merge holds an upper-case letter or a digit. And what an
answer always says in one go (`{"legible":true,"serial":"`) is one token, so an answer is short.

Words are learnt as byte pair encoding does, so every word of the list comes out as one token; the fixed runs of
the answers are then built from words and punctuation, left to right, by merges of higher rank.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer

from prompts import ANSWER_RUNS, CLASSES, LOCATIONS, QUESTIONS, SEVERITIES, SYSTEMS

SPACE = "\u2581"
BASE = ["<unk>", "<s>", "</s>"]
# In the order of their ids, after the base vocabulary; True: swallows the white space after it, as published.
ADDED = {
    "<|endoftext|>": False,
    "<|assistant|>": True,
    "<|user|>": False,
    "<|end|>": False,
    "<|system|>": False,
    "<|image|>": True,
}
# Words an engineer may want in a prompt, beside those of the prompts that were trained.
MORE_WORDS = """
a all and any are as at be bottom by can cannot center damage damaged defect defects describe dirt each every false
find for from give has hole illegible image in is it label left letters list lower major minor missing name no not
null number of on one only or part parts picture plate please print printed read report return right screw screws see
serial severity show state surface text that the there this to top true type unclear upper use visible what where
which with you
""".split()


def words() -> list[str]:
    """Every run of small letters that becomes one token, with the space before it where one can stand there."""
    texts = [*SYSTEMS, *QUESTIONS["serial"], *QUESTIONS["defects"]]
    found: set[str] = set()
    for text in texts:
        for space, word in re.findall(r"( ?)([a-z_]+)", text):
            found.add((SPACE if space else "") + word)
    found |= {SPACE + word for word in MORE_WORDS}
    for run in [*ANSWER_RUNS, *CLASSES, *SEVERITIES, *LOCATIONS]:
        found |= {space.replace(" ", SPACE) + word for space, word in re.findall(r"( ?)([a-z_]+)", run)}
    return sorted(found)


def learn(pieces: list[str]) -> list[tuple[str, str]]:
    """Byte pair encoding over the pieces until each is one token."""
    split = [list(piece) for piece in pieces]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for piece in split for pair in zip(piece, piece[1:]))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [apply(piece, best) for piece in split]


def apply(piece: list[str], pair: tuple[str, str]) -> list[str]:
    """Merges a pair wherever it stands in a piece."""
    out: list[str] = []
    for part in piece:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def runs(known: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Merges that build the answers' fixed runs, from words and single punctuation marks."""
    merges: list[tuple[str, str]] = []
    # `]}` comes first: it ends a list with defects as well as an empty one.
    for run in ["]}", *LOCATIONS, *ANSWER_RUNS]:
        parts = [p for p in re.findall(r" ?[a-z_]+|.", run)]
        parts = [p.replace(" ", SPACE) for p in parts]
        if run == '"}]}':
            parts = ['"', "}", "]}"]
        left = parts[0]
        for part in parts[1:]:
            if (left, part) not in merges and (left, part) not in known:
                merges.append((left, part))
            left += part
    return merges


def vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Pieces to ids: specials, bytes, single characters, merged pieces."""
    pieces = BASE + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [SPACE, *(c for c in string.printable if c.isprintable() and c != " ")]
    for left, right in merges:
        if left + right not in pieces:
            pieces.append(left + right)
    return {piece: index for index, piece in enumerate(pieces)}


def added_token(content: str, index: int, rstrip: bool, special: bool = True) -> dict:
    """An entry of `added_tokens`."""
    flags = {"single_word": False, "lstrip": False, "rstrip": rstrip, "normalized": False, "special": special}
    return {"id": index, "content": content, **flags}


def definition() -> dict:
    """The whole tokenizer.json."""
    learned = learn(words())
    merges = learned + runs(learned)
    vocab = vocabulary(merges)
    added = [added_token("<unk>", 0, False), added_token("<s>", 1, False), added_token("</s>", 2, True, False)]
    added += [added_token(name, len(vocab) + i, rstrip) for i, (name, rstrip) in enumerate(ADDED.items())]
    start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    start_b = {"SpecialToken": {"id": "<s>", "type_id": 1}}
    first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, first],
            "pair": [start, first, start_b, second],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": [f"{left} {right}" for left, right in merges],
        },
    }


def write(folder: Path) -> None:
    """Writes the three tokenizer files."""
    whole = definition()
    names = {token["content"]: token["id"] for token in whole["added_tokens"]}
    decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in whole["added_tokens"]}
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": ["<|system|>", "<|end|>", "<|user|>", "<|image|>"],
        "bos_token": "<s>",
        "chat_template": (
            "{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}"
            "{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}"
            "{{- '<|assistant|>\n' -}}{% endif %}"
        ),
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "model_max_length": 4096,
        "pad_token": "<|endoftext|>",
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    special = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<unk>"}
    assert names["<|end|>"]
    for name, content in (
        ("tokenizer.json", whole),
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", special),
    ):
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (folder / name).write_text(text + "\n", encoding="utf-8")


class Text:
    """The tokenizer as training uses it."""

    def __init__(self) -> None:
        self.tokenizer = Tokenizer.from_str(json.dumps(definition()))
        self.size = self.tokenizer.get_vocab_size()
        self.end = self.tokenizer.token_to_id("<|end|>")

    def piece(self, text: str) -> list[int]:
        """A piece of a prompt, with its own `<s>`, as the published processor encodes it."""
        return self.tokenizer.encode(text).ids

    def answer(self, text: str) -> list[int]:
        """An answer as it is generated: without `<s>` and without the space before a text, ended by `<|end|>`."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        assert ids[0] == self.tokenizer.token_to_id(SPACE), "an answer never merges with the space before it"
        return [*ids[1:], self.end]

    def decode(self, ids: list[int]) -> str:
        """Generated ids to text; stops at the first `<|end|>`."""
        if self.end in ids:
            ids = ids[: ids.index(self.end)]
        # The decoder strips one space at the start, which a text of its own always has.
        return self.tokenizer.decode([self.tokenizer.token_to_id(SPACE), *ids])
