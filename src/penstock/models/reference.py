"""How people name a model version: `churn@champion`, `churn/3`, `models:/churn@champion`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..core.errors import NotFoundError, RegistryError, did_you_mean

_NAME = re.compile(r"[\w.-]+")
NO_VERSION = "none"  # the observed version of an alias that points nowhere

_ALIAS = re.compile(r"[A-Za-z0-9_-]+")


class ModelReference(NamedTuple):
    """A model's name and which of its versions: a number, or an alias that moves."""

    name: str
    which: str

    @property
    def is_alias(self) -> bool:
        return not self.which.isdigit()

    def __str__(self) -> str:
        return f"{self.name}@{self.which}" if self.is_alias else f"{self.name}/{self.which}"


def parse_model_reference(text: str) -> ModelReference:
    """Read a reference as people and MLflow write it.

    >>> parse_model_reference("models:/churn@champion")
    ModelReference(name='churn', which='champion')
    >>> str(parse_model_reference("churn/3"))
    'churn/3'

    Raises: RegistryError where it is not one.
    """
    rest = text.strip().removeprefix("models:/").lstrip("/")
    name, mark, which = rest.partition("@") if "@" in rest else rest.partition("/")
    if not mark or not which:
        raise RegistryError(
            f"'{text}' does not say which version of the model",
            hint=f"write '{name or 'churn'}@champion' (an alias) or '{name or 'churn'}/3' (a version)",
        )
    check_name(name)
    if mark == "@":
        check_alias(which)
    elif not (which.isascii() and which.isdigit()):
        raise RegistryError(
            f"'{text}': '{which}' is not a version number", hint=f"an alias is written with @: '{name}@{which}'"
        )
    return ModelReference(name, which if mark == "@" else str(int(which)))


def check_name(name: str) -> None:
    """Refuse a model name that could not be referred to. Raises: RegistryError."""
    if not _NAME.fullmatch(name):
        raise RegistryError(
            f"'{name}' cannot be a model's name", hint="letters, digits, _ . and - only, as in 'churn' or 'churn-eu'"
        )


def check_alias(alias: str) -> None:
    """Refuse an alias that could be taken for a version: registries read `v3` and `3` as one.

    Raises: RegistryError.
    """
    if re.fullmatch(r"[vV]?\d+", alias) or alias.lower() == "latest":
        raise RegistryError(
            f"'{alias}' cannot be an alias: it reads like a version",
            hint="name the role it plays, as in 'champion' or 'challenger'",
        )
    if not _ALIAS.fullmatch(alias):
        raise RegistryError(f"'{alias}' cannot be an alias", hint="letters, digits, _ and - only, as in 'champion'")


def version_not_found(reference: ModelReference, *, names: Sequence[str], known: Sequence[str]) -> NotFoundError:
    """The error for a model, alias or version that is not there; `known` are the model's versions and aliases."""
    name, which = reference
    if name not in names:
        return NotFoundError(f"there is no registered model '{name}'", hint=did_you_mean(name, names))
    if reference.is_alias:
        aliases = [each for each in known if not each.isdigit()]
        return NotFoundError(f"model '{name}' has no alias '{which}'", hint=did_you_mean(which, aliases))
    return NotFoundError(
        f"model '{name}' has no version {which}", hint=did_you_mean(which, [each for each in known if each.isdigit()])
    )
