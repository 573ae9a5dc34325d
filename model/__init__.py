"""What training writes and the service reads: networks, retrieval, bundles.

May import neither `training` nor `service`. Relations inside this package run over ``[0, 2R)``: ``r + R`` is
the inverse of ``r``, so that every query asks for a tail.
"""
