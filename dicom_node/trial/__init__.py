"""Trying the node out: a demonstration over real associations, and an installation qualification."""
