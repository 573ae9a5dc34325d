"""Deployment: the bundle being served, and its exchange. It knows no HTTP; it may import `contract`, `scorer`
and `answering`.
"""
