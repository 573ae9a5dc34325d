"""World: the demo graph, that is the countries of the world, from tables of ours and CLDR.

May import `data`, `encoders`, `fit` and `export`.
"""
