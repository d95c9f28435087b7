"""How people name model versions."""

from __future__ import annotations

import pytest

from penstock.core.errors import RegistryError
from penstock.models.reference import ModelReference, parse_model_reference


@pytest.mark.parametrize(
    ("text", "name", "which", "is_alias"),
    [
        ("churn@champion", "churn", "champion", True),
        ("models:/churn@champion", "churn", "champion", True),
        ("models:/churn/3", "churn", "3", False),
        ("churn/03", "churn", "3", False),
        (" my-model.v2@blue_team ", "my-model.v2", "blue_team", True),
    ],
)
def test_every_usual_form_is_read(text: str, name: str, which: str, is_alias: bool) -> None:
    reference = parse_model_reference(text)
    assert reference == ModelReference(name, which)
    assert reference.is_alias is is_alias
    assert parse_model_reference(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("churn", "does not say which version"),
        ("churn@", "does not say which version"),
        ("", "does not say which version"),
        ("models:/churn", "does not say which version"),
        ("@champion", "cannot be a model's name"),
        ("a b@champion", "cannot be a model's name"),
        ("churn@v3", "reads like a version"),
        ("churn@3", "reads like a version"),
        ("churn@latest", "reads like a version"),
        ("churn@a/b", "cannot be an alias"),
        ("churn/champion", "'champion' is not a version number"),
        ("churn/²", "is not a version number"),
    ],
)
def test_what_is_none_is_explained(text: str, problem: str) -> None:
    with pytest.raises(RegistryError, match=problem) as caught:
        parse_model_reference(text)
    assert caught.value.hint
