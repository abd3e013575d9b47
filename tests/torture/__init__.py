"""Torture: a real node is killed again and again while it works, and then nothing may be missing.

``make torture N=200``, or ``python -m tests.torture --help``. The way of a campaign: `material` makes
series, `sender` sends them until each image is acknowledged, `archive` takes the results, `node` is
killed at one of the `moments`, `campaign` repeats that, `audit` holds what the senders and the archives
know against each other.
"""
