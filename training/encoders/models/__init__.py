"""Local models in place of the light encoders; their libraries are imported when they are used."""
