"""`penstock deploy FILE --on BACKEND`: make an engine know a pipeline, with its schedule."""

from __future__ import annotations

import argparse
import sys

from ...wiring.backends import backend_named, deployed
from ..engines import add_engine, asked, needs_engine
from ..exits import Exit
from ..render import print_json
from .run import parse as parse  # the command's flags, the file, the pipeline's own

COMMON = ("profile", "json")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "penstock deploy FILE.py[:PIPELINE] --on BACKEND [flags]"
    parser.epilog = """
where the engine is, and how steps run there, stands in penstock.toml, best as a profile:
  [profiles.prod]
  backend = "airflow"                 # or prefect, kubeflow
  endpoint = "http://airflow:8080"    # the engine's API
  dags = "/opt/airflow/dags"          # Airflow: the folder that it reads
  runs = "postgresql://ml@db/penstock"
  artifacts = "s3://lake/penstock"

runs that are in progress keep the graph they began with. What the engine cannot keep is refused (`penstock check`).

examples:
  penstock deploy churn.py --profile prod
  penstock deploy churn.py --on prefect --name churn-nightly
"""
    add_engine(parser)


def execute(arguments: argparse.Namespace) -> int:
    if arguments.help:
        arguments.parser.print_help()
        return Exit.OK
    found = asked(arguments)
    needs_engine(found, "deploy")
    told = deployed(backend_named(found.engine), found.settings, found.plan)
    if arguments.json:
        record = {"backend": found.engine, "name": found.plan.name, "manifest": found.plan.manifest or None}
        print_json({**record, "digest": found.plan.digest, "told": told})
    else:
        sys.stdout.write(f"{told}\n")
    return Exit.OK
