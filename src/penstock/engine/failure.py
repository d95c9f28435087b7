"""From an exception to a Failure: what kind it was, and a traceback that starts in the user's code."""

from __future__ import annotations

import os
import pickle
import traceback
from types import TracebackType

from ..core.canonical import digest_json
from ..core.errors import (
    ArtifactError,
    CodecError,
    FencedError,
    InvalidDataError,
    PenstockError,
    StepKilledError,
    StepPreemptedError,
    StepTimeoutError,
)
from ..ports.records import Failure, FailureClass
from .failureclass import cause_class, names_of
from .redaction import Redactor, storable

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PICKLE_LIMIT = 64 * 1024
_MESSAGE_CHARS = 8 * 1024
_TRACEBACK_CHARS = 64 * 1024


def failure_of(
    error: BaseException,
    *,
    loading: bool = False,
    encoding: bool = False,
    stopped: bool = False,
    secrets: Redactor | None = None,
    portable: bool = True,
) -> Failure:
    """Describe an exception. `loading`/`encoding`: it happened to an input or an output, not in the user's code.

    `stopped`: the attempt was told to stop, so that a cancelled coroutine is no failure of its own.
    """
    hidden = secrets or Redactor()
    kind = FailureClass.CANCELLED if stopped and _is_cancellation(error) else _kind(error, loading, encoding)
    frames = _user_frames(error.__traceback__)
    if isinstance(error, PenstockError) and _is_ours(frames):
        frames = None  # a message of ours says all; nobody's code is at fault
    text = "".join(traceback.format_exception(type(error), error, frames))
    pickled = _pickled(error) if portable else None
    hint = error.hint if isinstance(error, PenstockError) else None
    return Failure(
        kind=kind,
        message=_cut(storable(hidden.text(_message(error))), _MESSAGE_CHARS),
        types=tuple(storable(name) for name in names_of(error)),
        traceback=_cut(storable(hidden.text(text)), _TRACEBACK_CHARS),
        hint=hidden.text(hint) if hint else None,
        pickled=None if pickled is not None and hidden.holds(pickled) else pickled,
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


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the step called sys.exit({'' if error.code is None else repr(error.code)})"
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "stopped"
    try:
        said = error.problem if isinstance(error, PenstockError) else str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may fail in any way; the class still says something
        said = ""
    return said or type(error).__name__


def _is_cancellation(error: BaseException) -> bool:
    return any(cls.__name__ == "CancelledError" for cls in type(error).__mro__)


def _cut(text: str, limit: int) -> str:
    """The beginning and the end of a text that is too long to keep."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n[… {len(text) - limit} characters …]\n{text[-limit // 2 :]}"


def _kind(error: BaseException, loading: bool, encoding: bool) -> FailureClass:
    match error:
        case KeyboardInterrupt():
            return FailureClass.CANCELLED
        case StepTimeoutError():
            return FailureClass.TIMEOUT
        case StepKilledError():
            return FailureClass.KILLED
        case StepPreemptedError() | FencedError():
            return FailureClass.PREEMPTED
        case InvalidDataError():
            return FailureClass.INVALID_DATA
        case ArtifactError() if loading:
            return FailureClass.INPUT_LOST
        case CodecError() if encoding:
            return FailureClass.ENCODING
        case _:
            return cause_class(error) or FailureClass.ERROR


def sameness(error: BaseException) -> str:
    """What was raised and where, as a digest; "" for what tells of the outside (OSError), which may have changed.

    Type, message and the lines of every frame from the user's first one: a loop that got further is not the same.
    """
    if isinstance(error, OSError):
        return ""
    frames = traceback.extract_tb(_user_frames(error.__traceback__))
    lines = [[frame.filename, frame.lineno, frame.name] for frame in frames]
    return digest_json([names_of(error)[0], storable(_message(error)), lines])


def _user_frames(trace: TracebackType | None) -> TracebackType | None:
    """Fold our own frames above the user's first one."""
    probe = trace
    while probe is not None and _is_ours(probe):
        probe = probe.tb_next
    return probe or trace


def _is_ours(trace: TracebackType | None) -> bool:
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith(_HERE)


def _pickled(error: BaseException) -> bytes | None:
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:  # noqa: BLE001 - pickling runs the user's code; any refusal means "cannot travel"
        return None
    return content if len(content) <= _PICKLE_LIMIT else None
