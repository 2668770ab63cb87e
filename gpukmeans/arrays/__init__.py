"""Arrays as they come: on a device, sparse, their types and limits."""
