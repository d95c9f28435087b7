"""engine: what a pipeline means. Decides, runs and records; it touches the outside only through ports.

`launcher` runs one step anywhere and is the heart; `frontier` knows what may start next; `scheduler` is the embedded
engine: a loop over ready steps that keeps the run log; `workers` are warm processes whose work can really be stopped.
Knows core, graph and ports; never a database, a file format or a user's pipeline module by name.
"""
