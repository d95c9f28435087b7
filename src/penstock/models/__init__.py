"""models: gates, versions and aliases as ideas: what makes a model good enough, and what a reference to one means.

May know core, graph and ports. Pure but for the ready-made steps, which reach a registry and a scorer through
`context().service(...)`. Never imports MLflow, scikit-learn or any other library; loading this package loads nothing.
"""
