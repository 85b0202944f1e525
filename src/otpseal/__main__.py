"""`python -m otpseal` is the command line."""

from otpseal.cli import main

main()
