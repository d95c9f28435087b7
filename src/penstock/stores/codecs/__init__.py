"""codecs: how values of a kind become a file or a folder, and come back equal. May know ports, core and its library.

`default_codecs()` lists them in the order they are asked: the safe and exact ones first, cloudpickle last. A heavy
library is never imported to say no: its values can only exist where it is imported already. A codec that is canonical
gives the same bytes for the same value in another process and another minute. Never knows where the bytes are kept.
"""

from __future__ import annotations

from ...ports.artifacts import Codec
from .collection import CollectionCodec
from .files import FileCodec, FolderCodec
from .numpy import ArrayCodec
from .pandas import PandasCodec
from .pickled import PickleCodec
from .plain import BytesCodec, JsonCodec, TextCodec
from .polars import PolarsCodec
from .pyarrow import ArrowCodec
from .sklearn import EstimatorCodec

__all__ = ["default_codecs"]


def default_codecs() -> list[Codec]:
    """Every codec, in the order in which a value is offered to them."""
    exact: list[Codec] = [
        FileCodec(),
        FolderCodec(),
        TextCodec(),
        BytesCodec(),
        JsonCodec(),
        PandasCodec(),
        PolarsCodec(),
        ArrowCodec(),
        ArrayCodec(),
        EstimatorCodec(),
    ]
    return [*exact, CollectionCodec(exact), PickleCodec()]
