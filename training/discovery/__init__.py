"""Discovery: every question of a bundle asked, and the best facts that the graph does not hold written.

May import `data` of training.
"""
