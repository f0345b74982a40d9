"""x"""
def queues() -> None:
    """."""
def peek() -> None:
    """."""
