"""The demo graph: the countries of the world, from our own tables and CLDR."""
