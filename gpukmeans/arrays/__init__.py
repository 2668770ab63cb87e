"""What arrays are and may contain: arrays on a device, sparse matrices, dtypes and limits of values."""
