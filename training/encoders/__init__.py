"""Encoders: raw texts, numbers, pictures, sounds and videos become a Modality. May import `data`."""
