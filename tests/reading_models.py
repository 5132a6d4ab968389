"""Tiny random models of the families that a capture is tried with, and what their weights are."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional

VOCABULARY = 101


@dataclass
class Family:
    """A model and the arguments of one call.

    Attributes:
        model: in evaluation mode.
        inputs: keyword arguments.
        layers: how many attention layers run.
        eager: whether transformers can compute its weights with the formula written out.
    """

    model: Any
    inputs: dict[str, Any]
    layers: list[str]
    eager: bool = True


def made(model_class, config, factor=6):
    """The model with weights of a fixed seed, large enough for attention that differs."""
    torch.manual_seed(7)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return model


def ids(batch=2, length=13, seed=3):
    """(batch, token) token ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCABULARY, (batch, length), generator=generator)


def gpt2(**more):
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=67, n_embd=20, n_layer=3, n_head=5, **more
    )
    names = [f"transformer.h.{i}.attn" for i in range(3)]
    return Family(made(transformers.GPT2LMHeadModel, config), {"input_ids": ids()}, names)


def llama(**more):
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_attention_heads=6,
        num_key_value_heads=2,
        num_hidden_layers=2,
        intermediate_size=31,
        max_position_embeddings=67,
        **more,
    )
    names = [f"model.layers.{i}.self_attn" for i in range(2)]
    return Family(made(transformers.LlamaForCausalLM, config), {"input_ids": ids()}, names)


def bert(**more):
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=21,
        num_attention_heads=3,
        num_hidden_layers=2,
        intermediate_size=31,
        max_position_embeddings=67,
        **more,
    )
    names = [f"encoder.layer.{i}.attention.self" for i in range(2)]
    return Family(made(transformers.BertModel, config), {"input_ids": ids()}, names)


def gemma2(**more):
    config = transformers.Gemma2Config(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        num_hidden_layers=2,
        intermediate_size=31,
        max_position_embeddings=67,
        sliding_window=5,
        attn_logit_softcapping=3.0,
        query_pre_attn_scalar=7,
        **more,
    )
    names = [f"model.layers.{i}.self_attn" for i in range(2)]
    return Family(made(transformers.Gemma2ForCausalLM, config), {"input_ids": ids()}, names)


def mistral(**more):
    config = transformers.MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_attention_heads=6,
        num_key_value_heads=3,
        num_hidden_layers=2,
        intermediate_size=31,
        max_position_embeddings=67,
        sliding_window=5,
        **more,
    )
    names = [f"model.layers.{i}.self_attn" for i in range(2)]
    return Family(made(transformers.MistralForCausalLM, config), {"input_ids": ids()}, names)


def gpt_oss(**more):
    config = transformers.GptOssConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=4,
        num_hidden_layers=2,
        intermediate_size=32,
        max_position_embeddings=67,
        sliding_window=5,
        num_local_experts=3,
        num_experts_per_tok=2,
        **more,
    )
    model = made(transformers.GptOssForCausalLM, config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.sinks.normal_(0, 2)
    names = [f"model.layers.{i}.self_attn" for i in range(2)]
    return Family(model, {"input_ids": ids()}, names)


def t5(**more):
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=20,
        d_kv=7,
        num_heads=3,
        num_layers=2,
        d_ff=31,
        relative_attention_num_buckets=11,
        dropout_rate=0.0,
        **more,
    )
    encoder = [f"encoder.block.{i}.layer.0.SelfAttention" for i in range(2)]
    decoder = [
        f"decoder.block.{i}.layer.{name}"
        for i in range(2)
        for name in ("0.SelfAttention", "1.EncDecAttention")
    ]
    inputs = {"input_ids": ids(length=11), "decoder_input_ids": ids(length=7, seed=5)}
    model = made(transformers.T5ForConditionalGeneration, config, factor=2)
    return Family(model, inputs, encoder + decoder)


def vit(**more):
    config = transformers.ViTConfig(
        hidden_size=21,
        num_attention_heads=3,
        num_hidden_layers=2,
        intermediate_size=31,
        image_size=12,
        patch_size=4,
        **more,
    )
    names = [f"layers.{i}.attention" for i in range(2)]
    torch.manual_seed(5)
    inputs = {"pixel_values": torch.randn(2, 3, 12, 12)}
    return Family(made(transformers.ViTModel, config), inputs, names)


def whisper(**more):
    config = transformers.WhisperConfig(
        vocab_size=VOCABULARY,
        d_model=20,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=5,
        decoder_attention_heads=5,
        encoder_ffn_dim=31,
        decoder_ffn_dim=31,
        num_mel_bins=8,
        max_source_positions=17,
        max_target_positions=23,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        **more,
    )
    torch.manual_seed(5)
    inputs = {
        "input_features": torch.randn(2, 8, 34),
        "decoder_input_ids": ids(length=7, seed=5),
    }
    encoder = [f"encoder.layers.{i}.self_attn" for i in range(2)]
    decoder = [
        f"decoder.layers.{i}.{name}" for i in range(2) for name in ("self_attn", "encoder_attn")
    ]
    return Family(made(transformers.WhisperModel, config), inputs, encoder + decoder)


def bloom(**more):
    config = transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=20, n_layer=2, n_head=5, **more
    )
    names = [f"transformer.h.{i}.self_attention" for i in range(2)]
    return Family(made(transformers.BloomForCausalLM, config), {"input_ids": ids()}, names)


def falcon(**more):
    config = transformers.FalconConfig(
        vocab_size=VOCABULARY,
        hidden_size=20,
        num_hidden_layers=2,
        num_attention_heads=5,
        **more,
    )
    names = [f"transformer.h.{i}.self_attention" for i in range(2)]
    return Family(made(transformers.FalconForCausalLM, config), {"input_ids": ids()}, names)


def falcon_with_alibi(**more):
    return falcon(alibi=True, **more)


FAMILIES = {
    family.__name__: family
    for family in (
        gpt2,
        llama,
        bert,
        gemma2,
        mistral,
        gpt_oss,
        t5,
        vit,
        whisper,
        bloom,
        falcon,
        falcon_with_alibi,
    )
}


class Written(nn.Module):
    """Causal attention, written by hand as people write it."""

    def __init__(self, features=15, num_heads=3):
        super().__init__()
        self.num_heads, self.features = num_heads, features
        self.qkv = nn.Linear(features, 3 * features)

    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = (
            part.view(B, T, self.num_heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
        )
        scores = q @ k.transpose(-2, -1) / (self.features // self.num_heads) ** 0.5
        hidden = torch.triu(torch.ones(T, T, dtype=torch.bool), diagonal=1)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).reshape(B, T, -1)


class Kernel(Written):
    """The same over torch's own attention."""

    def forward(self, x, attn_mask=None, is_causal=True, **more):
        B, T, _ = x.shape
        q, k, v = (
            part.view(B, T, self.num_heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
        )
        made = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=attn_mask, is_causal=is_causal, **more
        )
        return made.transpose(1, 2).reshape(B, T, -1)


def tensors_of(outputs):
    """All tensors of a model's output, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, list | tuple):
        return [tensor for part in outputs for tensor in tensors_of(part)]
    return []


def eager_weights(name, inputs):
    """{layer: (batch, head, query, key)} as the model's own written-out formula gives them."""
    family = FAMILIES[name](attn_implementation="eager")
    with torch.no_grad():
        made = family.model(**inputs, output_attentions=True)
    if "decoder_attentions" not in made:
        return dict(zip(family.layers, made.attentions, strict=True))
    crossed = zip(made.decoder_attentions, made.cross_attentions, strict=True)
    weights = [*made.encoder_attentions, *(w for both in crossed for w in both)]
    return dict(zip(family.layers, weights, strict=True))
