"""World: the demo graph of the countries of the world, from our own tables and flags and from CLDR.

May import `data`, `encoders`, `fit` and `export`.
"""
