"""authoring: how a person writes a pipeline, and how that becomes a graph.

Knows core, graph and ports. Traces user code into a `Graph`, names steps so that another process finds them again,
and lists every mistake at once with file:line. It never runs a step and never touches a store: `Pipeline.run` talks
to whatever `bind_runner` was given.
"""
