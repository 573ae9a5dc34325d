"""Answering: names to ids, and answers of one bundle. It knows no HTTP.

It may import `contract` and `scorer`.
"""
