"""
What lies in a spool directory: checksummed lines, segments, locks, acknowledgements, dead letters.

Invariant: these modules know one file each and nothing of the order in which delivery uses them.
"""
