"""The backends: each a package with a tuple `ROWS` of `fastconv.registry.Impl`."""
