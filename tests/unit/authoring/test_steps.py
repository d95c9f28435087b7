"""Outside a pipeline a step is just its function."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from penstock import AsyncStep, Retry, Step, step
from penstock.authoring.identity import load_file
from penstock.core.errors import DefinitionError

shop: Any = load_file(str(Path(__file__).parent / "shop.py"))


def test_a_step_is_called_and_documented_like_its_function() -> None:
    assert shop.square(3, plus=1) == 10
    assert shop.square.fn(3) == 9
    assert shop.square.__name__ == "square"
    assert "shop.py" in repr(shop.square)
    with pytest.raises(TypeError):
        shop.square()


def test_a_map_outside_a_pipeline_is_a_list_of_calls() -> None:
    assert shop.square.map(x=[1, 2]) == [1, 4]
    assert shop.square.partial(plus=1).map(x=[1, 2]) == [2, 5]
    assert shop.square.map(x=[1, 2], plus=[3, 4]) == [4, 8]
    assert shop.square.map(x=[]) == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: shop.extract.map(), "nothing to map over"),
        (lambda: shop.square.map(x=[1], plus=[1, 2]), "differ in length"),
        (lambda: shop.square.map(y=[1]), "no parameter 'y'"),
        (lambda: shop.square.partial(x=1).map(x=[1]), "from both"),
        (lambda: shop.total.map(xs=[[1]], xz=[1]), "no parameter 'xz'"),
    ],
)
def test_a_wrong_map_outside_a_pipeline_is_refused_as_inside(call: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said) as caught:
        call()
    assert "test_steps.py" in str(caught.value)


def test_an_async_step_is_awaited_by_its_function_and_not_called() -> None:
    assert isinstance(shop.fetch, AsyncStep)
    assert asyncio.run(shop.fetch.fn("u")) == "U"
    with pytest.raises(DefinitionError, match=r"await fetch\.fn"):
        shop.fetch("u")
    with pytest.raises(DefinitionError, match="gather"):
        shop.fetch.map(url=["u"])


def test_named_after_and_with_options_leave_the_original_alone() -> None:
    changed = shop.square.named("best").with_options(retry=5, cache=False)
    assert changed.options.retry is not None
    assert (changed.options.retry.attempts, changed.options.cache) == (5, False)
    assert shop.square.options.retry is None
    assert changed(2) == 4
    assert isinstance(changed, Step)


def test_a_decorated_function_keeps_the_signature_and_place_of_the_function_inside() -> None:
    import functools

    def loud(fn: Any) -> Any:
        @functools.wraps(fn)
        def around(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs) + 1

        return around

    @step
    @loud
    def add(a: int, b: int = 1) -> int:
        return a + b

    assert add(1) == 3
    assert add.signature.names == ("a", "b")
    assert not add.signature.problems


def test_an_exception_class_of_the_running_file_has_the_name_that_another_process_gives_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys
    from types import ModuleType

    main = ModuleType("__main__")
    main.__file__ = str(tmp_path / "hello.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    kind = type("OutOfLuck", (Exception,), {"__module__": "__main__"})
    assert Retry(on=kind).policy.on == ("hello:OutOfLuck",)  # type: ignore[arg-type]


def test_no_step_can_take_upon_itself_that_its_code_is_edited_while_it_runs() -> None:
    with pytest.raises(DefinitionError, match="'code' is no kind of hidden input"):

        @step(cache_despite="code")
        def edited() -> int:
            return 1
