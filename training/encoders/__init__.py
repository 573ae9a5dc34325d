"""Encoders: raw texts, numbers, pictures, sounds and videos become a Modality. May import `data`."""

from momok.training.encoders.image import encode_pictures
from momok.training.encoders.numeric import encode_numbers
from momok.training.encoders.text import encode_texts

__all__ = ["encode_numbers", "encode_pictures", "encode_texts"]
