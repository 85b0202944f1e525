#!/usr/bin/env python3
"""Append the current code to the code log; cron runs this every minute.

The line itself goes to OTPSEAL_CODE_LOG and nowhere else. What there is to say, and
why there is no line, goes to stderr.
"""

from otpseal.cli.minute import log_minute

raise SystemExit(log_minute())
