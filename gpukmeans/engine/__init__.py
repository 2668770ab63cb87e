"""The algorithms: Lloyd's, mini-batches, restarts and their starts, each written once over any backend."""
