"""Error radii: the mathematics of "this label cannot be otherwise"."""
