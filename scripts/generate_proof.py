#!/usr/bin/env python3
"""Prove the current commit with the exercise's files: `otpseal proof create`."""

import sys

from otpseal.cli import main

sys.argv[1:1] = ["proof", "create", "--key-file", "student_private.pem"]
main()
