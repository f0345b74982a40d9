"""x"""
import typer

commands = typer.Typer()
@commands.command()
def x() -> None:
    """."""
@commands.command()
def y() -> None:
    """."""
