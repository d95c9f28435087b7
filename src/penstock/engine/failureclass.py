"""What an exception comes of: the network, memory, or the step's own code. Libraries are known by the names of their
classes, so that nothing is imported to ask.

A chain counts (`raise … from …`, and what is raised while another is handled): a library's own exception around a
connection that broke is still the network's. An exception that hides its cause (`from None`) hides it here too.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from ..ports.records import FailureClass

_NETWORK = frozenset(
    {
        "socket:gaierror",
        "socket:herror",
        "ssl:SSLError",
        "http.client:IncompleteRead",
        "http.client:BadStatusLine",
        "urllib3.exceptions:TimeoutError",
        "urllib3.exceptions:ProtocolError",
        "requests.exceptions:ConnectionError",
        "requests.exceptions:Timeout",
        "requests.exceptions:ChunkedEncodingError",
        "httpx:TransportError",
        "httpcore:NetworkError",
        "httpcore:TimeoutException",
        "httpcore:ProtocolError",
        "aiohttp.client_exceptions:ClientConnectionError",
        "aiohttp.client_exceptions:ClientPayloadError",
        "botocore.exceptions:ConnectionError",
        "botocore.exceptions:HTTPClientError",
        "asyncpg.exceptions:PostgresConnectionError",
    }
)
_UNVERIFIED = "ssl:SSLCertVerificationError"
_ASKED_WRONGLY = frozenset({"httpx:UnsupportedProtocol", "httpx:LocalProtocolError", _UNVERIFIED})
_MEMORY = frozenset(
    {
        "torch:OutOfMemoryError",
        "torch.cuda:OutOfMemoryError",
        "cupy.cuda.memory:OutOfMemoryError",
        "tensorflow.python.framework.errors_impl:ResourceExhaustedError",
    }
)
_JAX = frozenset({"jaxlib.xla_extension:XlaRuntimeError", "jax.errors:JaxRuntimeError"})
_PASSING_STATUS = frozenset({408, 429, 502, 503, 504})  # the server itself says: not now
_PASSING_SQLSTATE = ("08", "57P01", "57P02", "57P03")  # connection exceptions; the server goes down or comes up
_UNREACHABLE = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETRESET})
_CHAIN = 16  # longer ones are loops, or nobody's to read


def cause_class(error: BaseException) -> FailureClass | None:
    """NETWORK or OUT_OF_MEMORY where the exception, or what led to it, says so; else None.

    >>> try:
    ...     try:
    ...         raise ConnectionResetError("reset by peer")
    ...     except OSError as error:
    ...         raise RuntimeError("the feature store is away") from error
    ... except RuntimeError as error:
    ...     cause_class(error).value
    'network'
    """
    chain = list(_chain(error))
    for each in chain:
        if is_memory(each):
            return FailureClass.OUT_OF_MEMORY
        if isinstance(each, BaseExceptionGroup):
            kinds = {cause_class(member) for member in each.exceptions}
            if len(kinds) == 1 and (only := kinds.pop()) is not None:
                return only
        if is_network(each):
            distrusted = any(_UNVERIFIED in names_of(one) for one in chain)  # tomorrow as today
            return None if distrusted else FailureClass.NETWORK
    return None


def is_network(error: BaseException) -> bool:
    """Whether this exception itself, without what led to it, is the network's."""
    names = names_of(error)
    if not _ASKED_WRONGLY.isdisjoint(names):
        return False
    if isinstance(error, ConnectionError) or not _NETWORK.isdisjoint(names):
        return True
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return True
    if isinstance(error, TimeoutError) and type(error) is TimeoutError:
        return error.errno is not None or str(error).endswith("timed out")  # a socket says one or the other
    if any(name in ("psycopg:OperationalError", "psycopg2:OperationalError") for name in names):
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        return state is None or str(state).startswith(_PASSING_SQLSTATE)
    return _http_status(error) in _PASSING_STATUS


def is_memory(error: BaseException) -> bool:
    """Whether this exception itself says that memory, the machine's or a GPU's, ran out."""
    if isinstance(error, MemoryError):
        return True
    names = names_of(error)
    if not _MEMORY.isdisjoint(names):
        return True
    return not _JAX.isdisjoint(names) and str(error).startswith("RESOURCE_EXHAUSTED")


def names_of(error: BaseException) -> tuple[str, ...]:
    """ "module:Class" of the exception and its bases, nearest first."""
    return tuple(f"{cls.__module__}:{cls.__qualname__}" for cls in type(error).__mro__ if cls is not object)


def _chain(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(_CHAIN):
        if found is None:
            return
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _http_status(error: BaseException) -> int | None:
    """The status of an HTTP answer that became an exception: urllib, google.api_core, requests, httpx, botocore."""
    try:
        answer: Any = getattr(error, "response", None)
        status: Any = getattr(error, "code", None)
        if isinstance(answer, dict):
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        elif answer is not None:
            status = getattr(answer, "status_code", None)
    except Exception:  # noqa: BLE001 - attributes of a foreign exception may be code that fails in any way
        return None
    return status if isinstance(status, int) else None
