"""Bundle: what a bundle holds on disk, written whole and verified when opened.

May import `networks` (to build the model again), `retrieval` (to read indexes) and `runtime`.
"""
