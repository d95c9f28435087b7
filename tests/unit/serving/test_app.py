"""The HTTP surface over a registry in memory: what it answers, what it refuses, and when it switches."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import httpx
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from penstock.core.errors import NotFoundError, RegistryError, ServingError
from penstock.models.memory import MemoryRegistry
from penstock.ports.models import ModelCard, ModelVersion
from penstock.serving.app import create_app
from penstock.serving.server import serve
from penstock.serving.source import RegistrySource

TABLE = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "visits": [1.0, 2.0, 3.0, 4.0]})
CARD = ModelCard(run_id="churn-1", pipeline="churn", step="register", digest="d", metrics={"auc": 0.9})


class TurnedClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now_us(self) -> int:
        return 1_795_414_725_000_000

    def monotonic(self) -> float:
        return self.seconds


class Broken:
    """A model that loads and cannot predict."""

    feature_names_in_ = ("age", "visits")

    def predict(self, table: Any) -> Any:
        raise ZeroDivisionError("no")


class Registry(MemoryRegistry):
    """The memory registry, which can be made to go away."""

    away = False

    def find(self, name: str, which: str) -> ModelVersion | None:
        if self.away:
            raise RegistryError("the registry cannot be reached")
        return super().find(name, which)


@pytest.fixture
def registry() -> Registry:
    made = Registry(TurnedClock())
    for key, labels in (("1", [0, 0, 1, 1]), ("2", [1, 1, 0, 0])):
        made.register("churn", LogisticRegression().fit(TABLE, labels), CARD, key=key, example=TABLE)
    made.set_alias("churn", "champion", "1")
    return made


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def app(registry: Registry, clock: TurnedClock) -> Any:
    return create_app(RegistrySource(registry, "churn@champion"), clock=clock, max_body_bytes=1000)


def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(once())


def rows(table: pd.DataFrame = TABLE) -> dict[str, Any]:
    return {"rows": table.to_dict(orient="records")}


def version(app: Any) -> str:
    return str(ask(app, "POST", "/predict", json=rows()).json()["version"])


def test_predictions_are_the_models_own_in_the_order_of_the_rows(app: Any, registry: Registry) -> None:
    answer = ask(app, "POST", "/predict", json=rows(), headers={"x-request-id": "abc"})
    model = registry.load(registry.get("churn", "1"))
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "churn",
        "version": "1",
        "predictions": model.predict(TABLE).tolist(),
        "probabilities": model.predict_proba(TABLE).tolist(),
        "request_id": "abc",
    }
    assert answer.headers["x-request-id"] == "abc"


def test_a_batch_of_one_equals_its_row_of_a_batch(app: Any) -> None:
    batch = ask(app, "POST", "/predict", json=rows()).json()
    for place in range(len(TABLE)):
        one = ask(app, "POST", "/predict", json=rows(TABLE[place : place + 1])).json()
        assert one["predictions"] == batch["predictions"][place : place + 1]
        assert one["probabilities"][0] == pytest.approx(batch["probabilities"][place], rel=1e-12)


def test_no_rows_have_no_predictions(app: Any) -> None:
    answer = ask(app, "POST", "/predict", json={"rows": []}).json()
    assert (answer["predictions"], answer["probabilities"]) == ([], [])


def test_a_regression_has_no_probabilities(registry: Registry) -> None:
    registry.register("price", LinearRegression().fit(TABLE, [1.0, 2.0, 3.0, 4.0]), CARD, key="k", example=TABLE)
    answer = ask(create_app(RegistrySource(registry, "price/1")), "POST", "/predict", json=rows()).json()
    assert answer["probabilities"] is None
    assert answer["predictions"] == pytest.approx([1, 2, 3, 4])


def test_refusals_come_in_one_form(app: Any) -> None:
    for response, status, code in [
        (ask(app, "POST", "/predict", json={"rows": [{"age": 1.0}]}), 422, "missing_columns"),
        (ask(app, "POST", "/predict", content=b"{"), 400, "bad_json"),
        (ask(app, "POST", "/predict", content=b" " * 1001), 413, "too_large"),
        (ask(app, "GET", "/predict"), 405, "http_405"),
        (ask(app, "GET", "/nowhere"), 404, "http_404"),
    ]:
        assert response.status_code == status
        assert response.json()["error"]["code"] == code
        assert set(response.json()["error"]) >= {"code", "problem", "hint"}


def test_a_model_that_fails_is_a_500_that_shows_nothing_of_the_inside(registry: Registry) -> None:
    registry.register("bad", Broken(), CARD, key="k")
    answer = ask(create_app(RegistrySource(registry, "bad/1")), "POST", "/predict", json=rows())
    assert answer.status_code == 500
    assert answer.json()["error"]["problem"] == "the model failed on these rows: ZeroDivisionError"


def test_a_token_guards_everything_but_health(registry: Registry) -> None:
    app = create_app(RegistrySource(registry, "churn@champion"), token="s3cret")
    for path, method in (("/", "GET"), ("/model", "GET"), ("/predict", "POST")):
        refused = ask(app, method, path, headers={"authorization": "Bearer wrong"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "s3cret" not in refused.text
    assert ask(app, "GET", "/health/live").status_code == 200
    allowed = {"authorization": "Bearer s3cret"}
    assert ask(app, "POST", "/predict", json=rows(), headers=allowed).status_code == 200
    assert ask(app, "GET", "/model", headers=allowed).status_code == 200


def test_health_answers_under_both_names(app: Any) -> None:
    for prefix in ("/health", "/v2/health"):
        assert ask(app, "GET", f"{prefix}/live").json() == {"live": True}
        ready = ask(app, "GET", f"{prefix}/ready").json()
        assert (ready["ready"], ready["version"], ready["refused"], ready["registry"]) == (True, "1", None, "ok")


def test_what_is_served_is_said_to_programs_and_people(app: Any) -> None:
    model = ask(app, "GET", "/model").json()
    assert (model["name"], model["version"], model["alias"], model["run_id"]) == ("churn", "1", "champion", "churn-1")
    assert model["columns"][0] == {"name": "age", "type": "double", "optional": False}
    assert model["classes"] == [0, 1]
    assert model["since"] == "2026-11-23T06:18:45+00:00"
    page = ask(app, "GET", "/").text
    assert "version 1 (champion)" in page
    assert "curl http://test/predict" in page


def test_the_surface_describes_itself(app: Any) -> None:
    described = ask(app, "GET", "/openapi.json").json()
    assert set(described["paths"]) == {"/model", "/predict", "/health/live", "/health/ready"} | {
        "/v2/health/live",
        "/v2/health/ready",
    }


def test_the_page_escapes_what_it_shows(registry: Registry) -> None:
    nasty = pd.DataFrame({"<script>": [1.0, 2.0]})
    registry.register("nasty", LinearRegression().fit(nasty, [1.0, 2.0]), CARD, key="k", example=nasty)
    assert "<script>" not in ask(create_app(RegistrySource(registry, "nasty/1")), "GET", "/").text


def test_the_server_follows_the_alias(app: Any, registry: Registry) -> None:
    assert version(app) == "1"
    registry.set_alias("churn", "champion", "2")
    assert version(app) == "1"
    app.state.switch.check()
    assert version(app) == "2"


def test_a_request_finishes_on_the_version_it_started_with(app: Any, registry: Registry) -> None:
    held = app.state.switch.live
    registry.set_alias("churn", "champion", "2")
    app.state.switch.check()
    expected = registry.load(registry.get("churn", "1")).predict(TABLE).tolist()
    assert held.predict(TABLE).predictions == expected
    assert app.state.switch.live.predict(TABLE).predictions != expected


def test_a_version_that_cannot_predict_does_not_take_over(
    app: Any, registry: Registry, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry.register("churn", Broken(), CARD, key="broken", example=TABLE)
    registry.set_alias("churn", "champion", "3")
    with caplog.at_level(logging.ERROR, "penstock.serving"):
        app.state.switch.check()
        app.state.switch.check()
    assert len(caplog.records) == 1, "the same bad version is not loaded again at every look"
    assert version(app) == "1"
    refused = ask(app, "GET", "/health/ready").json()
    assert refused["ready"] is True
    assert refused["refused"] == {"version": "3", "problem": "ZeroDivisionError: no"}
    clock.seconds = 31
    app.state.switch.check()
    registry.set_alias("churn", "champion", "2")
    app.state.switch.check()
    assert version(app) == "2"
    assert ask(app, "GET", "/health/ready").json()["refused"] is None


def test_a_version_that_needs_other_columns_does_not_take_over(app: Any, registry: Registry) -> None:
    wider = TABLE.assign(income=1.0)
    registry.register("churn", LogisticRegression().fit(wider, [0, 0, 1, 1]), CARD, key="wide", example=wider)
    registry.set_alias("churn", "champion", "3")
    app.state.switch.check()
    assert version(app) == "1"
    assert "it needs a column 'income'" in ask(app, "GET", "/health/ready").json()["refused"]["problem"]


def test_a_version_that_needs_fewer_columns_takes_over(app: Any, registry: Registry) -> None:
    narrow = TABLE[["age"]]
    registry.register("churn", LogisticRegression().fit(narrow, [0, 0, 1, 1]), CARD, key="narrow", example=narrow)
    registry.set_alias("churn", "champion", "3")
    app.state.switch.check()
    assert version(app) == "3"


def test_it_serves_on_while_the_registry_is_away(app: Any, registry: Registry) -> None:
    registry.away = True
    app.state.switch.check()
    assert version(app) == "1"
    ready = ask(app, "GET", "/health/ready").json()
    assert ready["ready"] is True
    assert "cannot be reached" in ready["registry"]
    registry.away = False
    registry.set_alias("churn", "champion", "2")
    app.state.switch.check()
    assert version(app) == "2"
    assert ask(app, "GET", "/health/ready").json()["registry"] == "ok"


def test_a_model_that_names_no_columns_is_not_served(registry: Registry) -> None:
    registry.register("bare", LogisticRegression().fit(TABLE.to_numpy(), [0, 0, 1, 1]), CARD, key="k")
    with pytest.raises(ServingError, match="does not say which columns"):
        create_app(RegistrySource(registry, "bare/1"))


def test_an_unknown_model_is_explained_before_anything_is_served(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'churn'"):
        create_app(RegistrySource(registry, "chrun@champion"))


def test_another_host_needs_a_token(registry: Registry) -> None:
    with pytest.raises(ServingError, match="no token is set"):
        serve("churn@champion", registry=registry, host="0.0.0.0", port=0)


def test_a_port_in_use_is_named(registry: Registry) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"cannot listen on 127.0.0.1 port {port}"):
            serve("churn@champion", registry=registry, port=port)
