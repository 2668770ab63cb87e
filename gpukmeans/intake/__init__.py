"""What comes in: rows, weights and centers, checked once."""
