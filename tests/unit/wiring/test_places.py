"""What `--workers` may say."""

from __future__ import annotations

import pytest

from penstock.core.errors import UsageError
from penstock.wiring.config import Settings
from penstock.wiring.places import ClusterPlace, place_of


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (3, 3),
        ("4", 4),
        ("ray", ClusterPlace("ray")),
        ("ray:8", ClusterPlace("ray", most=8)),
        ("ray://head:10001", ClusterPlace("ray", "ray://head:10001")),
        ("dask", ClusterPlace("dask")),
        ("dask:12", ClusterPlace("dask", most=12)),
        ("dask://head:8786", ClusterPlace("dask", "tcp://head:8786")),
        ("tcp://10.0.0.1:8786", ClusterPlace("dask", "tcp://10.0.0.1:8786")),
        ("tls://[::1]:8786", ClusterPlace("dask", "tls://[::1]:8786")),
    ],
)
def test_a_number_or_a_cluster(text: int | str, place: int | ClusterPlace) -> None:
    assert place_of(text) == place


@pytest.mark.parametrize(
    "text", [0, -1, "0", "", "ray:", "ray:0", "ray:x", "ray://", "ray://head", "dask://head:port", "spark://head:7077"]
)
def test_anything_else_is_refused_with_the_forms_there_are(text: int | str) -> None:
    with pytest.raises(UsageError) as caught:
        place_of(text)
    assert "ray://HOST:10001" in str(caught.value)


def test_a_near_miss_is_named() -> None:
    with pytest.raises(UsageError, match="did you mean 'dask'"):
        place_of("dsak")


def test_the_setting_may_name_one() -> None:
    assert Settings("/r", "/r/.penstock", workers="ray:2").place == ClusterPlace("ray", most=2)
    assert isinstance(Settings("/r", "/r/.penstock").place, int)
