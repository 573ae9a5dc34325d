"""HTTP: connections, access, limits, routes and problem documents. It may import `contract`, `batching`,
`scorer`, `answering`, `deployment` and `monitoring`; no wing imports it.
"""
