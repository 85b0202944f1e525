#!/usr/bin/env python3
"""Write encrypted_seed.txt for student_public.pem here: `otpseal seed request`."""

import sys

from otpseal.cli import main

sys.argv[1:1] = ["seed", "request"]
main()
