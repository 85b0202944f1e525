#!/usr/bin/env python3
"""Make student_private.pem and student_public.pem here: `otpseal keys generate`."""

import sys

from otpseal.cli import main

sys.argv[1:1] = ["keys", "generate", "--out", "."]
main()
