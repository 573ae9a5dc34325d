"""Retrieval: from query vectors to the ranked best candidates.

Knows vectors and scores only: may import neither `networks` nor `bundle`.
"""
