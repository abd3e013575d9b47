"""The first station: association -> instances on disk -> a complete series.

Read `server` (who listens), `processes` and `process` (who receives), `connection` (one connection's
life), `datapath` (C-STORE), `spool` (what is on disk, and when it is safe) and `completion` (when a
series is complete).
The promise of this station is that nothing acknowledged is lost: Success is answered when
the image is on disk.
"""
