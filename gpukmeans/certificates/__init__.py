"""Error radii: bounds of rounding errors that prove a decision, such as the nearest center of a row."""
