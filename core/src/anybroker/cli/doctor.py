"""x"""
def doctor() -> None:
    """."""
