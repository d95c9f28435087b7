"""backends: adapters for engines. Those for orchestrators turn a graph into the engine's own form, and talk to its
server; those for clusters give the local engine places for its steps.

May know ports, graph and core, and the library or command of their own engine, which they import when it is used. They
hand over and bring back: what a pipeline means, and what an attempt may do, is the step launcher's. What is generated
starts it in the project's own environment (ports.backend says by which commands). Each stands alone.
"""
