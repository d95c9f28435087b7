"""Files into Airflow's DAG folder, and the wait until Airflow has read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from ...core.errors import BackendError, ConfigError
from ...core.files import put_generated, put_text
from ...core.units import shown_duration
from ...ports.backend import Blueprint, Bundle, Places
from .client import Client, Refused, named
from .writing import dag_file, manifest_name

_LOOK_S = 0.5
_AGAIN_S = 10.0  # between two requests to read the file again
_SKEW = timedelta(seconds=5)  # between two clocks that say what is older
_LONGEST_S = 330.0  # Airflow looks for new files every 300 s, if nobody told it otherwise


def deploy(bundle: Bundle, blueprint: Blueprint, form: str, places: Places) -> str:
    """Put the pipeline into Airflow's DAG folder; with an endpoint, wait until Airflow has read it."""
    client = Client(places) if places.endpoint else None
    if client is not None:
        client.check_version()
        _check_pools(client, blueprint)
        _check_name(client, blueprint, bundle.entry)
    folder = Path(places.folder or Path(places.work or blueprint.home) / "airflow")
    content = bundle.files.get(manifest_name(blueprint), "")
    manifest = manifest_name(blueprint, content) if content else ""
    text = dag_file(blueprint, form, manifest)
    entry = folder / bundle.entry
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if content:  # first, and under a name of its own: what runs meanwhile goes on with the older one
            put_text(folder / manifest, content)
        is_new = put_generated(entry, text, hint="choose another name for the deployment: --name …")
    except OSError as error:
        raise ConfigError(
            f"Airflow's DAG folder {folder} cannot be written: {error.strerror}",
            hint='name it in the profile: dags = "/opt/airflow/dags"',
        ) from error
    if client is None:
        where = "" if places.folder else ", which no Airflow reads yet: copy both files into its DAG folder"
        return f"wrote {entry}{where}"
    took = _wait(client, blueprint, entry, text, is_new=is_new)
    told = f"Airflow at {client.endpoint} knows {blueprint.name}: {entry} {took}"
    return told + (_in_progress(client, blueprint.name) if is_new else "")


def _in_progress(client: Client, name: str) -> str:
    """What becomes of runs that began with an older file: Airflow takes their tasks from the new one."""
    found = client.get(named("dags", name, "dagRuns"), state="running", limit="1")
    count = int(found.get("total_entries", 0))
    if not count:
        return ""
    runs = "a run is" if count == 1 else f"each of {count} runs is"
    return (
        f"\n{runs} in progress and keeps to the graph it began with; a step that the new file lacks is not "
        "started there any more, and `penstock resume` finishes such a run"
    )


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _wait(client: Client, blueprint: Blueprint, file: Path, text: str, *, is_new: bool) -> str:
    """Until Airflow shows this very text as the DAG's source. An import error is told in Airflow's words."""
    began, asked, entry = monotonic(), -_AGAIN_S, file.name
    since = datetime.now(UTC) - _SKEW if is_new else datetime.min.replace(tzinfo=UTC)
    while True:
        if not _holds(file, text):
            raise BackendError(
                f"another deployment of '{blueprint.name}' has written {file} meanwhile: that one counts",
                hint="deploy again, if this is the one that you want",
            )
        known = client.find(named("dags", blueprint.name, "details"))
        if known is not None and _source(client, blueprint.name) == text:
            return f"(read after {shown_duration(monotonic() - began)})" if is_new else "(as before)"
        if (error := _import_error(client, entry, since)) is not None:
            raise BackendError(
                f"Airflow cannot read {entry}: {error}",
                hint="the file needs Airflow 3 with its standard providers"
                + ("" if not blueprint.form else f", and the provider of the {blueprint.form} form"),
            )
        if monotonic() - began > _LONGEST_S:
            raise BackendError(
                f"Airflow at {client.endpoint} has not read {entry} within {shown_duration(_LONGEST_S)}",
                hint="does it read this folder? Compare the profile's `dags` with Airflow's core.dags_folder, and see "
                "the log of its dag-processor",
            )
        if known is not None and monotonic() - asked > _AGAIN_S:
            _read_again(client, known)
            asked = monotonic()
        sleep(_LOOK_S)


def _source(client: Client, name: str) -> str:
    found = client.find(named("dagSources", name))
    return str(found.get("content", "")) if found else ""


def _read_again(client: Client, known: dict[str, Any]) -> None:
    """Airflow reads a file that it knows every now and then; this makes it soon."""
    try:
        client.ask("PUT", named("parseDagFile", known["file_token"]))
    except Refused:
        return  # asked already


def _import_error(client: Client, entry: str, since: datetime) -> str | None:
    """The last line of what Airflow says of this file, if it has failed to read it since then."""
    found = client.get("/importErrors", limit="100", order_by="-timestamp")["import_errors"]
    for each in found:
        if Path(str(each["filename"])).name == entry and datetime.fromisoformat(str(each["timestamp"])) >= since:
            lines = [line for line in str(each["stack_trace"]).splitlines() if line.strip()]
            return lines[-1].strip() if lines else "import error"
    return None


def _check_pools(client: Client, blueprint: Blueprint) -> None:
    """Airflow never starts a task whose pool it does not know, and says so in a log only."""
    wanted = {node.options.pool: node.where for node in blueprint.graph.nodes if node.options.pool is not None}
    for pool, where in sorted(wanted.items()):
        if client.find(named("pools", pool)) is None:
            raise BackendError(
                f"Airflow at {client.endpoint} has no pool '{pool}'",
                hint=f"airflow pools set {pool} 4 'for penstock'    (4: how many steps at the same time)",
                where=where,
            )


def _check_name(client: Client, blueprint: Blueprint, entry: str) -> None:
    """A DAG of this name that comes from another file would take turns with ours."""
    known = client.find(named("dags", blueprint.name, "details"))
    if known is None or not known.get("fileloc"):
        return
    if Path(str(known["fileloc"])).name != entry and not known.get("is_stale"):
        raise BackendError(
            f"Airflow at {client.endpoint} has another DAG named '{blueprint.name}', from {known['fileloc']}",
            hint="deploy this one under another name: --name …",
        )
