"""Lloyd's algorithm and its starts, written once over any backend."""
