"""x"""
def send() -> None:
    """."""
def call() -> None:
    """."""
