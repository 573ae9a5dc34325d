"""Monitoring: metrics and logs. It knows no HTTP; it may import `scorer` and `answering`."""
