"""A tiny language model with a tokenizer and a chat template in SmolLM2's form, as its package would give them."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful friend<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LINES = (
    "so red is 3. Wait, but blue is 4. Alternatively, count.\n Wait Wait, purple 5, green 12, the answer is black.",
    "Wait. What are red, blue? I see red 4, blue 7. The arrow of pink is up, left, right or down. Describe the image.",
)


def small_published_tokenizer() -> Any:
    """A byte-level BPE of some 400 tokens, as transformers makes it of a GGUF file: digits are not split apart."""
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(LINES * 4, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    ends = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ends])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=ends[1], eos_token=ends[2], pad_token=ends[2], chat_template=TEMPLATE
    )


def small_published_model() -> Any:
    """A random Llama, 192 wide, whose weights bfloat16 holds."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = small_published_tokenizer()
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    model = LlamaForCausalLM(config).eval()
    model.config.quantization_config = {"quant_method": "gguf"}
    return model.bfloat16().float()
