"""ports: what an adapter must do, and the records that cross the seams. May know core and graph.

Protocols of a few methods each, frozen records, the events of the run log and the one pure fold that says what they
mean. No I/O, no third-party library.
"""
