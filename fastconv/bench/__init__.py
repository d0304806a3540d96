"""Measuring fastconv beside its peers: what `pytest bench/` and ``fastconv bench`` share.

`layers` has the shapes, `contenders` who is measured on them, `timing` checks and times, `table`
prints. Nothing here is imported by the rest of the package.
"""
