"""The commands: of each its flags, `<command>_flags(parser)`, and its work, `run_<command>(arguments)`.

Both import what they need when they are called. The docstring of the work is its line in `momok --help`.
"""
