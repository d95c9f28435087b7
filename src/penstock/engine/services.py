"""What the launcher is given to work with: one record of ports, bound by wiring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from ..core.clock import Clock
from ..core.errors import PenstockError
from ..ports.artifacts import Artifacts
from ..ports.boundary import BoundaryCheck
from ..ports.effects import Acting, Fence
from ..ports.observers import Observer
from ..ports.records import Fingerprint
from ..ports.steps import StepLoader
from .redaction import Redactor


class FingerprintSource(Protocol):
    """Gives the fingerprint of a step's code; None where its source is unknown."""

    def of(self, target: str) -> Fingerprint | None: ...

    def edited(self, target: str) -> list[str]:
        """Files whose edits, since the fingerprint was taken, make the code another one."""
        ...


class Services:
    """Ports by name. Adapters that a run may never need come as functions that make them."""

    def __init__(
        self,
        *,
        artifacts: Artifacts,
        loader: StepLoader,
        fingerprints: FingerprintSource,
        clock: Clock,
        boundaries: Sequence[BoundaryCheck] | Callable[[], Sequence[BoundaryCheck]] = (),
        observer: Callable[[str], Observer | None] = lambda kind: None,
        secret: Callable[[str], str] | None = None,
        service: Callable[[str], Any] | None = None,
        fence: Callable[[Acting], Fence] | None = None,
        checkpoints: str = "",
        hidden: Literal["on", "warn", "off"] = "on",
        own: Sequence[str] = (),
        pools: Mapping[str, int] | None = None,
        boot: Mapping[str, Any] | None = None,
    ) -> None:
        self.artifacts = artifacts
        self.loader = loader
        self.fingerprints = fingerprints
        self.clock = clock
        self._boundaries = boundaries
        self.observer = observer
        self.secret = secret or _no_secrets
        self.service = service
        self.fence = fence  # None: nobody else can take this process's attempts over
        self.checkpoints = checkpoints
        self.hidden = hidden  # what becomes of hidden inputs: kept out of the cache, only told, or not looked for
        self.own = tuple(own)  # beginnings of paths where penstock keeps its things: no hidden inputs
        self.pools = dict(pools or {})  # how many places each has
        self.boot = dict(boot or {})  # how another process makes these services again

    def redactor(self, names: Iterable[str]) -> Redactor:
        """Takes these secrets out of text; one that cannot be resolved here is in no text of this machine."""
        found = Redactor()
        for name in names:
            try:
                found.learn(self.secret(name))
            except (PenstockError, LookupError):
                continue  # the step that needs it fails with this, where it is recorded
        return found

    def boundary(self, annotation: Any) -> Sequence[BoundaryCheck]:
        """The checks that an annotation asks for. Plain types are told apart without importing any library."""
        if annotation is Any or getattr(annotation, "__module__", "") in ("builtins", "types"):
            return ()
        if callable(self._boundaries):
            self._boundaries = self._boundaries()
        return [check for check in self._boundaries if check.handles(annotation)]


def _no_secrets(name: str) -> str:
    raise LookupError(f"secret '{name}' cannot be resolved here")
