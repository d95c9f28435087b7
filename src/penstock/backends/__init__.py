"""Orchestrators: a graph in the native form of Airflow, Prefect or Kubeflow, and the talk with their servers.

Each backend lives in a package of its own and stands alone: none imports another. They may know the graph and the
ports; they never run a step and decide nothing about one. What they generate starts the step launcher, which does.
"""
