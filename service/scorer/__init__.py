"""Scorer: the process that scores and writes answers, and the line to it. It knows no HTTP; it may import
`contract`.
"""
