"""Aistrale and its peers, side by side against one loopback upstream: `python -m benchmarks`."""
