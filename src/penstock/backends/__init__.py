"""backends: adapters for orchestrators. Each turns a graph into that engine's own form, and talks to its server.

May know ports, graph and core; each stands alone. None runs a step: what it generates starts the step launcher in the
project's own environment (ports.backend says by which commands). An engine's library is needed only where its own
code runs, never here.
"""
