"""Errors that nobody sees, so that those that nobody may see take no longer.

An error costs some microseconds from where it arises to where it is caught. Over
10,000 tries that much is told apart; so where one way of failing meets an error that
another one does not, the other stumbles.
"""

from otpseal.errors import UnsealFailed


def stumble() -> None:
    """Spend the time that an error takes, translated once, until it is caught."""
    try:
        try:
            raise ValueError
        except ValueError:
            raise UnsealFailed from None
    except UnsealFailed:
        return
