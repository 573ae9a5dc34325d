"""Batching: queries of several requests are scored together, in time or not at all. It knows no HTTP; it may
import `contract`.
"""
