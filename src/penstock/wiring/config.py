"""Settings: penstock.toml or [tool.penstock] in pyproject.toml, then PENSTOCK_* variables, then flags; later wins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..core.errors import ConfigError, UsageError, did_you_mean
from ..graph import Graph
from .places import FORMS, Place, place_of


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where things are and how runs go, resolved."""

    root: str
    home: str  # .penstock, beside the code
    runs: str = ""  # URL of the run log; "" = sqlite in home
    artifacts: str = ""  # URL of the artifact store; "" = a folder in home
    tracking: str = ""  # URL of the MLflow server; "" = its embedded store in home
    workers: int | str = 0  # 0 = one per processor; text names a cluster
    durability: Literal["normal", "full"] = "normal"
    seed: int = 0
    profile: str = ""
    backend: str = "local"
    image: str = ""
    form: str = ""  # where an engine runs steps: "subprocess", "docker", "kubernetes"; "" = the backend's default
    endpoint: str = ""  # URL of the engine's API
    dags: str = ""  # the folder that Airflow reads
    python: str = ""  # the interpreter that steps run in; "" = this one
    secret: str = ""  # Kubernetes: the secret that containers take their environment from
    network: str = ""  # Docker: the network that steps' containers join; "" = Docker's own default
    accelerator: str = ""  # Kubernetes: what `gpu=1` asks for; "" = nvidia.com/gpu
    engine_python: str = ""  # the interpreter that has the engine's own library, where submitting needs it
    trusted_types: tuple[str, ...] = ()  # what a registered model may contain besides scikit-learn's own classes
    hidden_inputs: Literal["on", "warn", "off"] = "on"  # a step that has some is not cached; only told; not looked for
    pools: dict[str, int] = {}  # name -> how many steps of all runs in this run log may have a place of it at once
    allow_pickle: bool = False  # let models that other tools registered as pickles run their code

    @property
    def runs_url(self) -> str:
        return self.runs or f"sqlite:///{self.home}/runs.db"

    @property
    def artifacts_url(self) -> str:
        return self.artifacts or f"{self.home}/artifacts"

    @property
    def place(self) -> Place:
        """Where attempts run."""
        return place_of(self.workers or os.cpu_count() or 1)


class Workers:
    """The kind of the setting `workers`: a whole number or text."""


_KEYS: dict[str, type] = {
    "runs": str, "artifacts": str, "tracking": str, "workers": Workers, "durability": str, "seed": int, "home": str,
    "backend": str, "image": str, "form": str, "endpoint": str, "dags": str, "python": str, "engine_python": str,
    "secret": str, "network": str, "accelerator": str, "trusted_types": list, "allow_pickle": bool,
    "hidden_inputs": str,
    "pools": dict,
}  # fmt: skip

_LARGEST_SEED = 2**32 - 1

_SHOWN: dict[type, str] = {
    str: "text", int: "a whole number", bool: "true or false", list: "a list", Workers: FORMS,
    dict: "numbers by name: gpu=1,io=4",
}  # fmt: skip
_PARSED: dict[type, Any] = {
    Workers: lambda text: _workers(text),
    bool: lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()],
    list: lambda text: tuple(filter(None, text.split(","))),
    dict: lambda text: {name: int(size) for name, size in (each.split("=") for each in text.split(",") if each)},
}


def load_settings(root: str, *, profile: str | None = None, **flags: Any) -> Settings:
    """Settings of the project at `root`. Raises ConfigError naming file, key and fix."""
    values: dict[str, Any] = {}
    table, source = _file_table(Path(root))
    profiles = table.pop("profiles", {})
    if not isinstance(profiles, dict):
        raise ConfigError(f"{source}: 'profiles' is not a table", hint="write [profiles.prod]")
    values |= _checked(table, source)
    chosen = profile or os.environ.get("PENSTOCK_PROFILE") or ""
    if chosen:
        if chosen not in profiles:
            raise ConfigError(
                f"{source or 'penstock.toml'} has no profile '{chosen}'", hint=did_you_mean(chosen, list(profiles))
            )
        if not isinstance(profiles[chosen], dict):
            raise ConfigError(f"{source}: 'profiles.{chosen}' is not a table", hint=f"write [profiles.{chosen}]")
        _override(values, _checked(profiles[chosen], f"{source} [profiles.{chosen}]"))
    _override(values, _environment())
    values |= {key: value for key, value in flags.items() if value is not None}
    for pool, size in values.get("pools", {}).items():
        if type(size) is not int or size < 1:
            raise ConfigError(f"pool '{pool}' has {size!r} places", hint=f"write a number from 1 up: {pool} = 1")
    home = values.pop("home", None) or os.path.join(root, ".penstock")
    if values.get("durability", "normal") not in ("normal", "full"):
        raise ConfigError(f"durability is {values['durability']!r}", hint="write 'normal' or 'full'")
    if (hidden := values.get("hidden_inputs", "on")) not in ("on", "warn", "off"):
        raise ConfigError(
            f"hidden_inputs is {hidden!r}", hint=f"{did_you_mean(hidden, ['on', 'warn', 'off'])}; 'on', 'warn' or 'off'"
        )
    if isinstance(workers := values.get("workers", 0), int) and workers < 0:
        raise ConfigError(f"workers is {workers}", hint="write 1 or more; 0 means one per processor")
    if not 0 <= values.get("seed", 0) <= _LARGEST_SEED:
        raise ConfigError(
            f"seed is {values['seed']}", hint=f"write a number from 0 to {_LARGEST_SEED}, which every generator takes"
        )
    return Settings(root=root, home=os.path.join(root, home), profile=chosen, **values)


def _override(values: dict[str, Any], later: dict[str, Any]) -> None:
    """Later wins; of pools, one by one."""
    pools = {**values.get("pools", {}), **later.get("pools", {})}
    values |= later
    if pools:
        values["pools"] = pools


def check_pools(graph: Graph, settings: Settings) -> None:
    """Every pool that a step needs has a size. Raises ConfigError with the line to write."""
    for node in graph.nodes:
        pool = node.options.pool
        if pool is not None and pool not in settings.pools:
            near = did_you_mean(pool, list(settings.pools)) if settings.pools else ""
            raise ConfigError(
                f"step '{node.name}' needs a place of pool '{pool}', and no setting says how many there are",
                hint=(f"{near}; " if near.startswith("did") else "")
                + f"write in penstock.toml: [pools] {pool} = 1 (on two lines), or set PENSTOCK_POOLS={pool}=1",
                where=node.where,
            )


def _file_table(root: Path) -> tuple[dict[str, Any], str]:
    for name in ("penstock.toml", "pyproject.toml"):
        path = root / name
        if not path.exists():
            continue
        import tomllib

        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}", hint="correct that line") from error
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        if name == "penstock.toml":
            return table, name
        found = table.get("tool", {}).get("penstock")
        if found is not None:
            if not isinstance(found, dict):
                raise ConfigError(f"{path}: 'tool.penstock' is not a table", hint="write [tool.penstock]")
            return found, "pyproject.toml [tool.penstock]"
    return {}, ""


def _checked(table: dict[str, Any], source: str) -> dict[str, Any]:
    for key, value in table.items():
        if key not in _KEYS:
            raise ConfigError(f"{source}: unknown setting '{key}'", hint=did_you_mean(key, [*_KEYS, "profiles"]))
        if not _fits(value, _KEYS[key]):
            raise ConfigError(f"{source}: '{key}' is {value!r}, but it takes {_SHOWN[_KEYS[key]]}")
    return {key: tuple(map(str, value)) if isinstance(value, list) else value for key, value in table.items()}


def _fits(value: Any, kind: type) -> bool:
    """Whether a value of a file is of the kind that its key takes."""
    if kind is Workers:
        return type(value) is int or (type(value) is str and _is_place(value))
    return type(value) is kind


def _is_place(text: str) -> bool:
    try:
        place_of(text)
    except UsageError:
        return False
    return True


def _workers(text: str) -> int | str:
    if text.lstrip("-").isdigit():
        return int(text)
    place_of(text)
    return text


def _environment() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, kind in _KEYS.items():
        text = os.environ.get(f"PENSTOCK_{key.upper()}")
        if text is None:
            continue
        try:
            values[key] = _PARSED.get(kind, kind)(text)
        except (ValueError, KeyError, UsageError):
            raise ConfigError(f"PENSTOCK_{key.upper()} is {text!r}, but it takes {_SHOWN[kind]}") from None
    return values
