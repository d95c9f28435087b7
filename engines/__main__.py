"""`python -m engines`: install the engines, start one to look at, or say which versions are here."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path

from . import installing
from .airflow import airflow
from .places import EngineError, program
from .prefect import prefect


def main() -> int:
    arguments = _arguments()
    try:
        if arguments.what == "install":
            installing.install(arguments.engines or installing.NAMES, lambda line: print(line, flush=True))
        elif arguments.what == "versions":
            for name, version in installing.versions().items():
                print(f"{name:12}{version}")
        else:
            _start(arguments.engine, arguments.dags)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _start(engine: str, dags: Path | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background job is born deaf to it
        signal.signal(each, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix=f"penstock-{engine}-") as temporary:
            folder = Path(temporary)
            print(f"starting {engine} (half a minute); Ctrl-C stops it and removes what it kept", flush=True)
            if engine == "airflow":
                with airflow(folder, dags=(dags or folder / "dags").resolve(), triggerer=True) as server:
                    print(f"{server.url}  DAG files: {server.dags}", flush=True)
                    _show_profile("airflow", endpoint=server.url, dags=str(server.dags))
                    threading.Event().wait()
            else:
                with prefect(folder, ui=True) as served:
                    print(f"{served.url}  for a flow: export PREFECT_API_URL={served.api_url}", flush=True)
                    worker = f"{program('prefect', 'prefect')} worker start --pool penstock"
                    print(f"for `penstock run`, a worker: PREFECT_API_URL={served.api_url} {worker}", flush=True)
                    _show_profile("prefect", endpoint=served.api_url)
                    threading.Event().wait()
    except KeyboardInterrupt:
        print("stopped")


def _show_profile(engine: str, **settings: str) -> None:
    """What goes into penstock.toml: `penstock run FILE.py --profile ENGINE`."""
    lines = [
        f"[profiles.{engine}]",
        f'backend = "{engine}"',
        *(f'{key} = "{value}"' for key, value in settings.items()),
    ]
    print("\n".join(["for penstock.toml:", *(f"  {line}" for line in lines)]), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engines", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    install = commands.add_parser("install", help="install all, or the engines named")
    install.add_argument("engines", nargs="*", metavar="ENGINE", help=", ".join(installing.NAMES))
    start = commands.add_parser("start", help="start one and print its address; Ctrl-C stops it")
    start.add_argument("engine", choices=("airflow", "prefect"))
    start.add_argument("--dags", type=Path, help="the folder of Airflow's DAG files; otherwise an empty one")
    commands.add_parser("versions", help="what is installed here")
    arguments = parser.parse_args()
    if unknown := set(getattr(arguments, "engines", ())) - set(installing.NAMES):
        parser.error(f"no such engine: {', '.join(sorted(unknown))} (there are {', '.join(installing.NAMES)})")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
