"""The families, by kind: a name alone where small numbers are all that it needs."""

from typing import Any

import torch

from experiments.coverage.families import (
    BATCH,
    LEAVE,
    TOKENS,
    VOCABULARY,
    Family,
    Inputs,
    ids,
    normal,
)


def _plain(names: str) -> dict[str, dict[str, Any]]:
    """Families that need no settings."""
    return {name: {} for name in names.split()}


MIXED = {"layer_types": ["linear_attention", "full_attention"]}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
MAMBA = {"conv_kernel": 4, "state_size": 4, "time_step_rank": 4}

DECODERS: dict[str, dict[str, Any]] = {
    **_plain("""
        afmoe apertus arcee aria_text bart bert bert-generation bigbird_pegasus biogpt
        bitnet blenderbot blenderbot-small bloom camembert cohere cohere2 cohere2_moe ctrl cwm
        data2vec-text deepseek_v2 deepseek_v3 diffllama doge dots1 electra ernie ernie4_5
        ernie4_5_moe exaone4 exaone_moe falcon flex_olmo gemma gemma2 gemma3_text git glm glm4
        glm4_moe glm4_moe_lite gpt2 gpt_bigcode gpt_neox gpt_neox_japanese gpt_oss granite
        granite_swa granitemoe granitemoe_swa granitemoeshared helium hunyuan_v1_dense
        hunyuan_v1_moe inkling_text jais2 jetmoe lfm2 llama llama4_text marian mbart megatron-bert
        minicpm3 minimax minimax_m2 ministral ministral3 mistral mixtral modernbert-decoder moshi
        mpt mvp nanochat nemotron olmo olmo2 olmo3 olmo_hybrid olmoe openai-gpt opt pegasus
        persimmon phi phi3 phimoe plbart qwen2 qwen2_moe qwen3 qwen3_moe rembert roberta
        roberta-prelayernorm roformer rwkv seed_oss smollm3 stablelm starcoder2 trocr vaultgemma
        whisper xglm xlm xlm-roberta xlm-roberta-xl xlnet youtu axk1 hyperclovax longcat_flash
    """),
    "bamba": {"mamba_n_heads": 4, "mamba_d_head": 16, "attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 4},
    "cpmant": {"dim_head": 8, "init_std": 0.1},
    "falcon, alibi": {"alibi": True},
    "falcon_h1": {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 5},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "layer_types": ["mamba", "attention"],
    },
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
    },
    "mamba": MAMBA,
    "mamba2": {"conv_kernel": 4, "state_size": 4, "num_heads": 8, "head_dim": 8, "n_groups": 1},
    "qwen3_5_text": {**MIXED, **LINEAR},
    "qwen3_next": {**MIXED, **LINEAR},
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": 5, "lru_width": 32},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [4, 4],
        "axial_pos_embds_dim": [16, 16],
        "attention_head_size": 8,
        "num_buckets": 4,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "feed_forward_size": 48,
    },
    "zamba": {"num_hidden_layers": LEAVE},
    "zamba2": {"num_hidden_layers": LEAVE},
}

ENCODERS: dict[str, dict[str, Any]] = {
    **_plain("""
        albert bert camembert canine convbert data2vec-text deberta distilbert dpr electra
        ernie esm eurobert flaubert fnet gte ibert imagegpt jina_embeddings_v3 layoutlm longformer
        markuplm megatron-bert mobilebert modernbert mpnet mra nomic_bert nystromformer rembert
        roberta roberta-prelayernorm roformer splinter squeezebert tapas visual_bert xlm
        xlm-roberta xlm-roberta-xl yoso
    """),
    "big_bird, full": {"attention_type": "original_full"},
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 4,
        "max_relative_positions": -1,
        "share_att_key": True,
    },
    "esmc": {"num_key_value_heads": 4},
    "funnel": {"num_hidden_layers": LEAVE, "block_sizes": [1, 1], "d_model": 32},
    "luke": {"entity_vocab_size": 11, "entity_emb_size": 16},
    "perceiver": {
        "num_latents": 7,
        "d_latents": 32,
        "num_blocks": 1,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
        "qk_channels": 32,
        "v_channels": 32,
    },
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [4, 4],
        "axial_pos_embds_dim": [16, 16],
        "attention_head_size": 8,
        "num_buckets": 4,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "feed_forward_size": 48,
    },
    "roc_bert": {"pronunciation_vocab_size": 11, "shape_vocab_size": 11},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}

ENCODER_DECODERS: dict[str, dict[str, Any]] = {
    **_plain("""
        bart bigbird_pegasus blenderbot blenderbot-small led longt5 m2m_100 marian mbart mt5 mvp
        nllb-moe pegasus pegasus_x plbart switch_transformers t5 t5gemma t5gemma2 umt5
    """),
    "fsmt": {"langs": ["en", "de"], "src_vocab_size": VOCABULARY, "tgt_vocab_size": VOCABULARY},
    "prophetnet": {"num_hidden_layers": LEAVE},
}

RESNET = {"model_type": "resnet", "hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}
DETR = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": {**RESNET, "out_features": ["stage2"]},
    "num_queries": 5,
}
SWIN = {
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": 2,
    "patch_size": 2,
}
PYRAMID = {
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "num_encoder_blocks": 2,
    "sr_ratios": [2, 1],
    "num_attention_heads": [1, 2],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 16,
}
VIDEO = {"num_frames": 4, "tubelet_size": 2}
VISION: dict[str, dict[str, Any]] = {
    **_plain("""
        aimv2_vision_model beit chinese_clip_vision_model clip_vision_model data2vec-vision deit
        dinov2 dinov2_with_registers dpt ijepa internvl_vision pixtral resnet sam_vision_model
        siglip_vision_model vit vit_mae vit_msn vitdet
    """),
    "conditional_detr": DETR,
    "deformable_detr": DETR,
    "detr": DETR,
    "dinov3_vit": {"hidden_size": 32},
    "glpn": PYRAMID,
    "pvt": {**PYRAMID, "patch_sizes": [2, 2], "sequence_reduction_ratios": [2, 1]},
    "segformer": PYRAMID,
    "swin": SWIN,
    "swin2sr": {**SWIN, "patch_size": 1},
    "swinv2": SWIN,
    "table-transformer": DETR,
    "timesformer": {"num_frames": 4},
    "videomae": VIDEO,
    "vivit": {"num_frames": 4, "tubelet_size": [2, 4, 4]},
    "yolos": {"image_size": [16, 16], "num_detection_tokens": 3},
}

AUDIO: dict[str, dict[str, Any]] = {
    **_plain("""
        data2vec-audio hubert moonshine qwen2_audio_encoder sew sew-d unispeech unispeech-sat
        voxtral_encoder wav2vec2 wav2vec2-conformer wavlm whisper
    """),
    "speech_to_text": {
        "input_feat_per_channel": 8,
        "conv_channels": 16,
        "max_source_positions": 64,
    },
}

TEXT_OF_MULTIMODAL = _plain("""
    evolla exaone4_5 gemma3 idefics2 idefics3 internvl llava llava_next llava_onevision mistral3
    paligemma qwen3_vl qwen3_vl_moe smolvlm video_llava
""")

IMAGES_AND_TEXTS: dict[str, dict[str, Any]] = {
    **_plain("""
        altclip blip chinese_clip clip clipseg flava metaclip_2 owlvit siglip vilt
    """),
    **TEXT_OF_MULTIMODAL,
    "sam": {
        "prompt_encoder_config": {"hidden_size": 32},
        "mask_decoder_config": {"hidden_size": 32},
        "vision_config": {"output_channels": 32, "num_pos_feats": 16},
    },
}


def video() -> Inputs:
    """(batch, frame, channel, height, width)."""
    return {"pixel_values": normal(BATCH, 4, 3, 16, 16)}


def long_text() -> Inputs:
    """Long enough for blocks that are left out."""
    return {"input_ids": ids(64), "attention_mask": torch.ones(BATCH, 64, dtype=torch.long)}


def axial() -> Inputs:
    """As long as the positions of Reformer have it."""
    return {"input_ids": ids(16), "attention_mask": torch.ones(BATCH, 16, dtype=torch.long)}


def trajectory() -> Inputs:
    """States, actions and rewards."""
    steps = torch.arange(TOKENS)[None].expand(BATCH, -1)
    return {
        "states": normal(BATCH, TOKENS, 5),
        "actions": normal(BATCH, TOKENS, 3),
        "rewards": normal(BATCH, TOKENS, 1),
        "returns_to_go": normal(BATCH, TOKENS, 1),
        "timesteps": steps,
        "attention_mask": torch.ones(BATCH, TOKENS, dtype=torch.long),
    }


def series() -> Inputs:
    """A past with features, and the future's."""
    return {
        "past_values": normal(BATCH, 9),
        "past_time_features": normal(BATCH, 9, 1),
        "past_observed_mask": torch.ones(BATCH, 9),
        "future_values": normal(BATCH, 5),
        "future_time_features": normal(BATCH, 5, 1),
    }


SERIES = {
    "prediction_length": 5,
    "context_length": 7,
    "lags_sequence": [1, 2],
    "num_time_features": 1,
}

OTHERS = [
    Family(
        "decision_transformer",
        "other",
        {"state_dim": 5, "act_dim": 3, "max_ep_len": 32},
        inputs=trajectory,
    ),
    Family("time_series_transformer", "other", SERIES, inputs=series),
    Family("informer", "other", SERIES, inputs=series),
    Family("autoformer", "other", {**SERIES, "label_length": 3}, inputs=series),
    Family(
        "timesfm",
        "other",
        {"patch_length": 4, "context_length": 16, "horizon_length": 4},
        inputs=lambda: {
            "past_values": normal(BATCH, 16),
            "past_values_padding": torch.zeros(BATCH, 16),
            "freq": torch.zeros(BATCH, 1, dtype=torch.long),
            "input_ids": None,
        },
    ),
]

FUNCTIONS = {
    "cpmant": "it returns the weights without the prompt before the text",
    "falcon, alibi": "set to eager it adds ALiBi twice, which makes it another model",
    "diffllama": "it returns the difference of two attentions, which are recorded",
    "minimax": "it returns linear attention among its weights",
    "sam": "its mask decoder returns other tensors under the name",
    "squeezebert": "it returns scores, not weights",
    "t5gemma2": "one softmax over both own and encoder's keys, which it returns in two",
    "wavlm": "it returns the mean over heads",
}
"""Families whose returned weights are others than those they use: torch's functions tell."""

INPUTS = {
    "big_bird": long_text,
    "moonshine": lambda: {"input_values": normal(BATCH, 4000)},
    "reformer": axial,
    "speech_to_text": lambda: {"input_features": normal(BATCH, 64, 8)},
    **dict.fromkeys(("timesformer", "videomae", "vivit"), video),
    **dict.fromkeys(TEXT_OF_MULTIMODAL, lambda: {"pixel_values": None}),
}


def _families(kind: str, settings: dict[str, dict[str, Any]]) -> list[Family]:
    return [
        Family(
            name,
            kind,
            own,
            inputs=INPUTS.get(name),
            compared="functions" if name in FUNCTIONS else "eager",
            note=FUNCTIONS.get(name, ""),
        )
        for name, own in settings.items()
    ]


FAMILIES = [
    *_families("decoder", DECODERS),
    *_families("encoder", ENCODERS),
    *_families("encoder and decoder", ENCODER_DECODERS),
    *_families("vision", VISION),
    *_families("audio", AUDIO),
    *_families("text and image", IMAGES_AND_TEXTS),
    *OTHERS,
]
