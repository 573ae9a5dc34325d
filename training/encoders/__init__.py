"""Encoders: raw texts, numbers and pictures -> a Modality, with nothing but light libraries."""

from training.encoders.image import encode_pictures
from training.encoders.numeric import encode_numbers
from training.encoders.text import encode_texts

__all__ = ["encode_numbers", "encode_pictures", "encode_texts"]
