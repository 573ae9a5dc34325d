"""HTTP: access, limits, routes and problem documents. Only `edge` imports it.

It may import `contract`, `batching`, `scorer`, `answering`, `deployment` and `monitoring`.
"""
