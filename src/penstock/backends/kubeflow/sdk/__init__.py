"""Scripts for the interpreter that has Kubeflow's SDK. It need not have penstock: they import nothing of it.

Each reads one JSON request and answers with one JSON record; `client` starts them.
"""
