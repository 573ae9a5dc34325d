"""Edge: sockets, TLS, the protocol of a connection, signals. No wing imports it.

It may import `contract`, `answering`, `deployment`, `monitoring` and `http`.
"""
