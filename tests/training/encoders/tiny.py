"""Tiny randomly initialised models, saved as their libraries save real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from momok.training.encoders.models.libraries import importing

SIDE = 32
"""Rows and columns of pixels that the tiny vision models look at."""


def vit(folder: Path, *, pooler: bool = True) -> Path:
    with importing("transformers", "a test", "image"):
        from transformers import ViTConfig, ViTImageProcessorPil, ViTModel
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=SIDE, patch_size=16,
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=pooler).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    with importing("transformers", "a test", "image"):
        from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "projection_dim": 12,
    }
    config = CLIPConfig(
        text_config={**sizes, "vocab_size": 50},
        vision_config={**sizes, "image_size": SIDE, "patch_size": 16},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size).save_pretrained(folder)
    return folder


def resnet(folder: Path) -> Path:
    """Of transformers: a convolution, whose output has rows and columns."""
    with importing("transformers", "a test", "image"):
        from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetModel
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": SIDE}).save_pretrained(folder)
    return folder


def timm_vit(folder: Path) -> Path:
    with importing("timm", "a test", "image"):
        import timm
        from timm.models import save_for_hf
    torch.manual_seed(0)
    sizes = {"img_size": SIDE, "embed_dim": 16, "depth": 1, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **sizes)
    model.pretrained_cfg["input_size"] = (3, SIDE, SIDE)
    save_for_hf(model, folder, model_args=sizes, safe_serialization=True)
    return folder


def open_clip(folder: Path) -> Path:
    with importing("open_clip", "a test", "image"):
        import open_clip as library
    torch.manual_seed(0)
    config: Mapping[str, Any] = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": SIDE, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    model = library.CLIP(**config)
    folder.mkdir()
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return folder


def wav2vec2(folder: Path) -> Path:
    with importing("transformers", "a test", "audio"):
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_stride=(10, 8), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def whisper(folder: Path) -> Path:
    """An encoder and a decoder, of which the encoder listens."""
    with importing("transformers", "a test", "audio"):
        from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    WhisperModel(config).save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


VISION: Mapping[str, Callable[[Path], Path]] = {
    "vit": vit,
    "clip": clip,
    "resnet": resnet,
    "timm": timm_vit,
    "open_clip": open_clip,
}
HEARING: Mapping[str, Callable[[Path], Path]] = {"wav2vec2": wav2vec2, "whisper": whisper}
