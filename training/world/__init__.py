"""The demo graph, made from nothing but a seed."""
