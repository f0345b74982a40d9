"""x"""
def init() -> None:
    """."""
