"""Edge: sockets, TLS, the protocol of a connection, signals. No wing imports it.

It may import `contract`, `deployment`, `monitoring` and `http`.
"""
