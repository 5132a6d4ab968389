"""Tiny random models, built from their configurations: nothing is downloaded."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

BATCH, TOKENS, ASKED, PADDED = 2, 13, 7, 4
"""Asked: the tokens of a decoder that has an encoder. Padded: of item 1."""

VOCABULARY = 101
SPREAD = 0.12
"""The least standard deviation of a matrix: from the usual 0.02 all weights would be alike."""

SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size",), VOCABULARY),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "emb_dim"), 32),
    **dict.fromkeys(("embedding_size", "word_embed_proj_dim", "projection_dim"), 32),
    **dict.fromkeys(("qformer_hidden_size",), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_encoder_layers",), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("attention_heads",), 4),
    **dict.fromkeys(("num_key_value_heads",), 2),
    **dict.fromkeys(("head_dim", "d_kv", "d_head", "v_head_dim"), 8),
    **dict.fromkeys(("intermediate_size", "d_ff", "d_inner", "n_inner", "ffn_dim"), 48),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("max_source_positions", "max_target_positions"), 32),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_num_experts",), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace", "decoder_sparse_step"), 1),
    **dict.fromkeys(("num_shared_experts", "n_shared_experts"), 1),
    "expert_capacity": 64,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "sliding_window": 5,
    "attention_window": 4,
    "local_attention": 6,
    "type_vocab_size": 3,
    "image_size": 16,
    "patch_size": 4,
    "num_mel_bins": 8,
    "conv_dim": (16, 16),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 2,
    # dropout is off in evaluation; what is drawn at random all the same is drawn from one seed
}
"""Numbers for every configuration that knows the name."""

LEAVE = object()
"""In a family's settings: this number of `SMALL` is left as the configuration has it."""

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """A family of models, and how to make a tiny one.

    Attributes:
        name: the model type of transformers, with a variant after a comma; or ours for the rest.
        kind: the heading under which it is listed.
        settings: numbers of its configuration other than `SMALL`.
        model_class: a name in transformers; None: as the auto class of its kind says.
        inputs: changes to the inputs; None takes one away.
        build: makes model and inputs where there is no configuration.
        compared: "eager" with the weights that an eager model returns, "functions" with what
            torch's functions were called with.
        told: the weights of all layers, where neither tells.
        note: what should be known of the result.
    """

    name: str
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    model_class: str | None = None
    inputs: Callable[[], Inputs] | None = None
    build: Callable[[], tuple[torch.nn.Module, Inputs]] | None = None
    compared: str = "eager"
    told: Callable[[Any, Inputs], list[torch.Tensor]] | None = None
    note: str = ""

    def make(self, implementation: str | None = None) -> tuple[Any, Inputs]:
        """The model in evaluation mode with weights of a fixed seed, and the inputs of one call."""
        torch.manual_seed(7)
        if self.build is not None:
            model, inputs = self.build()
            return model.eval(), inputs
        config = small(CONFIG_MAPPING[self.model_type], self.settings)
        if implementation is not None:
            config._attn_implementation = implementation
        model = getattr(transformers, self.class_name)(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                spread = float(parameter.std()) if parameter.ndim > 1 else SPREAD
                if not spread:
                    parameter.normal_(0, SPREAD)
                elif spread < SPREAD:
                    parameter.mul_(SPREAD / spread)
        inputs = inputs_of(model, self.kind)
        if self.inputs is not None:
            inputs.update(self.inputs())
        return model, {name: value for name, value in inputs.items() if value is not None}

    @property
    def model_type(self) -> str:
        """The name without its variant."""
        return self.name.partition(",")[0]

    @property
    def class_name(self) -> str:
        """The model's class in transformers."""
        return self.model_class or str(AUTO[self.kind][self.model_type])

    @property
    def implementations(self) -> list[str]:
        """Those of its attention, "sdpa" before "eager"; "own" where it has no choice."""
        if self.build is not None:
            return ["own"]
        model, _ = self.make()
        return ["sdpa", "eager"] if model.config._attn_implementation == "sdpa" else ["eager"]


def _auto(*mappings: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for mapping in mappings:
        for name, classes in mapping.items():
            found.setdefault(name, classes if isinstance(classes, str) else classes[0])
    return found


AUTO = {
    "decoder": _auto(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "encoder": _auto(
        modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, modeling_auto.MODEL_MAPPING_NAMES
    ),
    "encoder and decoder": _auto(
        modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_MAPPING_NAMES,
    ),
    **dict.fromkeys(
        ("vision", "audio", "text and image", "other"), _auto(modeling_auto.MODEL_MAPPING_NAMES)
    ),
}


def small(kind: type[PretrainedConfig], settings: dict[str, Any]) -> PretrainedConfig:
    """A configuration with the numbers of `SMALL` that it knows, and these."""
    default = kind()
    renamed = getattr(default, "attribute_map", {})
    numbers: dict[str, Any] = {
        name: value
        for name, value in SMALL.items()
        if name not in renamed and _alike(_said(default, name), value, kind, name)
    }
    if "qk_rope_head_dim" in numbers:  # latent attention: a key for every head
        numbers |= {name: 4 for name in ("num_key_value_heads", "head_dim") if name in numbers}
    for name in kind.sub_configs:
        part, own = _said(default, name), settings.get(name, {})
        if isinstance(part, PretrainedConfig) and "model_type" not in own:
            numbers[name] = small(type(part), own).to_dict()
            settings = {key: value for key, value in settings.items() if key != name}
    numbers |= settings
    return kind(**{name: value for name, value in numbers.items() if value is not LEAVE})


def _said(config: PretrainedConfig, name: str) -> Any:
    try:
        return getattr(config, name, _nothing)
    except ValueError:  # one that differs from layer to layer
        return _nothing


_nothing = object()


def _alike(default: Any, value: Any, kind: type, name: str) -> bool:
    """Whether a number of the configuration can be of this type."""
    if default is _nothing or isinstance(getattr(kind, name, None), property):
        return False
    return default is None or isinstance(default, list | tuple) == isinstance(value, tuple)


def ids(length: int = TOKENS) -> torch.Tensor:
    """(batch, token) ids, without the special ones."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(3, VOCABULARY, (BATCH, length), generator=generator)


def normal(*shape: int) -> torch.Tensor:
    """Random numbers of a fixed seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def padding(side: str) -> torch.Tensor:
    """(batch, token): 1 for a real token; item 1 is padded."""
    keep = torch.ones(BATCH, TOKENS, dtype=torch.long)
    keep[1, slice(0, PADDED) if side == "left" else slice(TOKENS - PADDED, TOKENS)] = 0
    return keep


def inputs_of(model: Any, kind: str) -> Inputs:
    """What `forward` asks for, by the names of its arguments."""
    names = inspect.signature(model.forward).parameters
    main = model.main_input_name
    made: Inputs = {}
    if kind not in ("vision", "audio") and "input_ids" in names:
        made["input_ids"] = ids()
        if "attention_mask" in names:
            made["attention_mask"] = padding("left" if kind == "decoder" else "right")
    if "decoder_input_ids" in names and kind in ("encoder and decoder", "audio"):
        made["decoder_input_ids"] = ids(ASKED)
    if kind == "vision" or (kind == "text and image" and "pixel_values" in names):
        made["pixel_values"] = normal(BATCH, 3, 16, 16)
    if kind == "audio":
        made[main] = normal(BATCH, 400) if main == "input_values" else normal(BATCH, 8, 64)
    return made
