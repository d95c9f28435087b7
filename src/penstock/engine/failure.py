"""From an exception to a Failure: what kind it was, and a traceback that starts in the user's code."""

from __future__ import annotations

import os
import pickle
import traceback
from types import TracebackType

from ..core.errors import (
    ArtifactError,
    CodecError,
    InvalidDataError,
    PenstockError,
    StepKilledError,
    StepOutOfMemoryError,
    StepTimeoutError,
)
from ..ports.records import Failure, FailureClass

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PICKLE_LIMIT = 64 * 1024


def failure_of(
    error: BaseException,
    *,
    loading: bool = False,
    encoding: bool = False,
    secrets: tuple[str, ...] = (),
    portable: bool = True,
) -> Failure:
    """Describe an exception. `loading`/`encoding`: it happened to an input or an output, not in the user's code."""
    kind = _kind(error, loading, encoding)
    text = "".join(traceback.format_exception(type(error), error, _user_frames(error.__traceback__)))
    message = error.problem if isinstance(error, PenstockError) else str(error)
    for secret in secrets:
        if secret:
            text, message = text.replace(secret, "•••"), message.replace(secret, "•••")
    clean = not any(secret and secret in repr(error.args) for secret in secrets)
    return Failure(
        kind=kind,
        message=message or type(error).__name__,
        types=tuple(f"{cls.__module__}:{cls.__qualname__}" for cls in type(error).__mro__ if cls is not object),
        traceback=text,
        hint=error.hint if isinstance(error, PenstockError) else None,
        pickled=_pickled(error) if portable and clean else None,
    )


def exception_from(failure: Failure) -> BaseException | None:
    """The exception again, where it could travel."""
    if failure.pickled is None:
        return None
    try:
        error = pickle.loads(failure.pickled)
    except Exception:  # noqa: BLE001 - a user's class may refuse in any way; the text of it is still there
        return None
    return error if isinstance(error, BaseException) else None


def _kind(error: BaseException, loading: bool, encoding: bool) -> FailureClass:
    match error:
        case KeyboardInterrupt():
            return FailureClass.CANCELLED
        case StepTimeoutError():
            return FailureClass.TIMEOUT
        case StepOutOfMemoryError() | MemoryError():
            return FailureClass.OUT_OF_MEMORY
        case StepKilledError():
            return FailureClass.KILLED
        case InvalidDataError():
            return FailureClass.INVALID_DATA
        case ArtifactError() if loading:
            return FailureClass.INPUT_LOST
        case CodecError() if encoding:
            return FailureClass.ENCODING
        case _:
            return FailureClass.ERROR


def _user_frames(trace: TracebackType | None) -> TracebackType | None:
    """Fold our own frames above the user's first one."""
    probe = trace
    while probe is not None and probe.tb_frame.f_code.co_filename.startswith(_HERE):
        probe = probe.tb_next
    return probe or trace


def _pickled(error: BaseException) -> bytes | None:
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:  # noqa: BLE001 - pickling runs the user's code; any refusal means "cannot travel"
        return None
    return content if len(content) <= _PICKLE_LIMIT else None
