"""What is shown while something takes seconds."""

import contextlib
from collections.abc import Callable, Iterator

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


@contextlib.contextmanager
def counted(text: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show on stderr, to people only, how many rows were worked on so far.

    Args:
        text: what is done with them.
        total: how many there are, if that is known.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(text, total=total)
        yield lambda count: shown.update(task, completed=count)
