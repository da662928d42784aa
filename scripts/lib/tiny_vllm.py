"""Makes a LLaVA-like model's configuration, tokenizer and processor in the folder given, for vLLM to serve with
weights that it makes up itself (--load-format dummy): bytes are its tokens, and what it says is nonsense."""

import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: "
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] in ('image', 'image_url') %}<image>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}\n{% endfor %}assistant: "
)

out = sys.argv[1]
special = ["<s>", "</s>", "<unk>", "<pad>", "<image>"]
words = special + sorted(pre_tokenizers.ByteLevel.alphabet())
vocab = {word: number for number, word in enumerate(words)}
tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.add_special_tokens(special)
fast = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
    pad_token="<pad>", model_max_length=8192,
)
fast.chat_template = TEMPLATE
images = CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
LlavaProcessor(
    image_processor=images, tokenizer=fast, patch_size=28, chat_template=TEMPLATE,
    vision_feature_select_strategy="default", num_additional_image_tokens=1,
).save_pretrained(out)
LlavaConfig(
    architectures=["LlavaForConditionalGeneration"],
    vision_config=CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        image_size=336, patch_size=28, projection_dim=64,
    ),
    text_config=LlamaConfig(
        vocab_size=len(vocab), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=8192,
        bos_token_id=0, eos_token_id=1, pad_token_id=3,
    ),
    image_token_index=vocab["<image>"], vision_feature_layer=-2, image_seq_length=144,
    dtype="bfloat16",
).save_pretrained(out)
