"""Small problems on the CPU, whose restarts advance together."""
