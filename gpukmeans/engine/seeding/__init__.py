"""Where Lloyd's algorithm starts."""
