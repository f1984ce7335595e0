"""Redis read models of topics: never the truth, always rebuildable."""
