"""x"""
def bench() -> None:
    """."""
