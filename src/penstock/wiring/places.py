"""Where attempts run, as `--workers` says it: a number of processes here, or a Ray or Dask cluster."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from ..core.errors import UsageError, did_you_mean
from ..ports.cluster import Cluster

FORMS = "a number, ray, ray:N, ray://HOST:10001, dask, dask:N or dask://HOST:8786"
_CAPPED = re.compile(r"(ray|dask)(?::([1-9][0-9]*))?")
_DASK_SCHEMES = ("tcp", "tls", "ws", "wss")


class ClusterPlace(msgspec.Struct, frozen=True):
    """A cluster: `address` "" is the one that its own variable or this machine names, else one for this run alone."""

    engine: Literal["ray", "dask"]
    address: str = ""
    most: int | None = None  # attempts at a time; None: as many as it has processors


Place = int | ClusterPlace


def place_of(value: int | str) -> Place:
    """What --workers, `workers=` or the setting means. Raises UsageError.

    >>> place_of("4"), place_of("ray:8")
    (4, ClusterPlace(engine='ray', address='', most=8))
    >>> place_of("dask://10.0.0.7:8786").address
    'tcp://10.0.0.7:8786'
    """
    text = str(value).strip()
    if re.fullmatch(r"[0-9]+", text) and int(text) > 0:
        return int(text)
    if (match := _CAPPED.fullmatch(text)) is not None:
        most = int(match[2]) if match[2] else None
        return ClusterPlace("ray", most=most) if match[1] == "ray" else ClusterPlace("dask", most=most)
    scheme, separator, rest = text.partition("://")
    if separator and _has_host_and_port(text):
        if scheme == "ray":
            return ClusterPlace("ray", text)
        if scheme == "dask":
            return ClusterPlace("dask", f"tcp://{rest}")
        if scheme in _DASK_SCHEMES:
            return ClusterPlace("dask", text)
    near = did_you_mean(scheme if separator else text, ["ray", "dask"])
    hint = f"{near} " if near.startswith("did you mean") else ""
    raise UsageError(f"workers is {value!r}", hint=f"{hint}write {FORMS}")


def open_cluster(place: ClusterPlace) -> Cluster:
    """Connect, or start one for this run. Raises ClusterError or MissingExtraError."""
    from .attending import attend  # a run on this machine needs none of it

    if place.engine == "ray":
        from ..backends.ray import RayCluster

        return RayCluster(place.address, most=place.most, attend=attend)
    from ..backends.dask import DaskCluster

    return DaskCluster(place.address, most=place.most, attend=attend)


def _has_host_and_port(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port is not None
    except ValueError:
        return False
