"""penstock: ML pipelines as typed Python functions."""
