"""backends: where a run, or the steps of one, execute outside this process. One module or folder for each.

Adapters: may know ports, graph and core, and the library or command of their own engine, which they import when they
are used. They hand over and bring back; what a pipeline means, and whether another attempt happens, is not theirs.
Each stands alone: none knows another.
"""
