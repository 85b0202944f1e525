"""What is shown while something takes seconds."""

import contextlib
from collections.abc import Iterator

import typer


@contextlib.contextmanager
def search_shown(bits: int) -> Iterator[None]:
    """Show on stderr that a key is made: a spinner for people, else one line."""
    from rich.console import Console  # slow to import, and only needed here

    console = Console(stderr=True)
    text = f"searching for the primes of an RSA-{bits} key"
    if console.is_terminal:
        with console.status(f"{text} ..."):
            yield
    else:
        # Not console.print: it would wrap the line at 80 columns.
        typer.echo(f"{text}; this may take a while", err=True)
        yield
