"""Background tasks on any broker."""
