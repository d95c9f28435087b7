"""An engine that does not mean the same is caught: drivers that lie, each in its own way, on a case or two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.conformance.campaign import Campaign, Played
from penstock.testing.conformance.case import Case
from penstock.testing.conformance.catalogue import chosen
from penstock.testing.conformance.commands import CALM, CommandDriver, run_here
from penstock.testing.conformance.driving import Answer, EngineRun, Ground


class Liar(CommandDriver):
    """Tells the truth, unless a subclass does not."""

    closed = 0

    def __init__(self, *words: str) -> None:
        super().__init__("liar", *CALM, *words, at_once=2)
        self.asked: list[str] = []

    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        self.asked.append(case.name)
        return super().run(case, parameters)

    def close(self) -> None:
        self.closed += 1


class OtherParameters(Liar):
    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        return super().run(case, {**parameters, "number": 5})


class SaysThatItFailed(Liar):
    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        return super().run(case, parameters)._replace(state="failed", failed_steps=frozenset({"first"}))


class HidesFailures(Liar):
    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        return super().run(case, parameters)._replace(state="succeeded", failed_steps=frozenset())


class NeverStarts(Liar):
    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        return EngineRun(None, told="the DAG could not be imported")


class Raises(Liar):
    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        raise ConnectionError("the server is away")


class GivesAnotherRun(Liar):
    """A run of its own making, with its tag, in place of the one that was asked for."""

    def run(self, case: Case, parameters: Mapping[str, Any]) -> EngineRun:
        return run_here(self.place, case, parameters, {}, *self.words, "--tag", "team=others")


class Refuses(Liar):
    def declared(self, case: Case) -> Mapping[str, Answer]:
        return {"map": Answer("refused", "it has no maps")} if case.name.startswith("map") else super().declared(case)


class Emulates(Liar):
    def declared(self, case: Case) -> Mapping[str, Answer]:
        return {"steps": Answer("emulated", "by hand")}


class Leaks(Liar):
    """Its log holds what it was given."""

    def start(self, ground: Ground) -> Mapping[str, str]:
        self._log = ground.work.parent / "engine.log"
        self._log.write_text(f"started with {dict(ground.environment)}")
        return super().start(ground)

    def places_to_search(self) -> Iterable[Path]:
        return [self._log]


def played(driver: Liar, folder: Path, *names: str) -> dict[str, Played]:
    found = {one.case.name: one for one in Campaign(chosen(names), folder).play(driver)}
    assert driver.closed == 1
    return found


@pytest.mark.parametrize(
    ("driver", "name", "verdict", "told"),
    [
        (Liar(), "linear", "kept", ""),
        (Liar("--no-cache"), "cache_second_run", "differs", "state: cached in the calm run, succeeded here"),
        (OtherParameters(), "diamond", "differs", "the run: parameters 'number': '4' in the calm run, '5' here"),
        (SaysThatItFailed(), "linear", "differs", "the run has succeeded, and the engine says that it has failed"),
        (SaysThatItFailed(), "linear", "differs", "first succeeded, and the engine shows it as failed"),
        (HidesFailures(), "map_one_fails", "differs", "the run has failed, and the engine says that it has succeeded"),
        (HidesFailures(), "map_one_fails", "differs", "picky[2] failed, and the engine does not show it as failed"),
        (NeverStarts(), "linear", "broken", "no run came of it; liar says: the DAG could not be imported"),
        (Raises(), "linear", "broken", "ConnectionError: the server is away"),
        (GivesAnotherRun(), "linear", "differs", "the run: tags 'team': nothing in the calm run, 'others' here"),
        (Refuses(), "map_of_one", "refused", "map: it has no maps"),
        (Leaks(), "secret_used", "differs", "the secret PENSTOCK_CASE_TOKEN lies in "),
    ],
)  # fmt: skip
def test_what_an_engine_does_wrong_is_told(driver: Liar, name: str, verdict: str, told: str, tmp_path: Path) -> None:
    one = played(driver, tmp_path, name)[name]
    assert one.verdict == verdict
    assert [line for line in one.differences if told in line] if told else one.differences == ()


def test_a_case_with_a_refused_feature_is_neither_deployed_nor_run(tmp_path: Path) -> None:
    driver = Refuses()
    found = played(driver, tmp_path, "map_of_one", "linear")
    assert (found["map_of_one"].verdict, found["linear"].verdict) == ("refused", "kept")
    assert driver.asked == ["linear"]
    assert not (driver.place.folder / "map_of_one.py").exists()


def test_a_refusal_that_the_catalogue_does_not_know_is_a_difference_and_so_is_one_that_did_not_come(
    tmp_path: Path,
) -> None:
    driver = Refuses()
    driver.name = "prefect"
    (tmp_path / "one").mkdir()
    one = played(driver, tmp_path / "one", "map_of_one")["map_of_one"]
    assert (one.verdict, one.differences) == ("differs", ("refused, and it is kept elsewhere: map: it has no maps",))
    driver = Liar()
    driver.name = "airflow"
    (tmp_path / "two").mkdir()
    two = played(driver, tmp_path / "two", "resources")["resources"]
    assert two.verdict == "differs"
    assert two.differences == ("it is known to be refused here, and was not: the catalogue is behind",)


def test_what_an_engine_emulates_is_kept_and_said(tmp_path: Path) -> None:
    one = played(Emulates(), tmp_path, "linear")["linear"]
    assert (one.verdict, one.emulated) == ("kept", ("steps: by hand",))


def test_a_driver_that_cannot_be_prepared_is_closed_all_the_same(tmp_path: Path) -> None:
    class Unprepared(Liar):
        def start(self, ground: Ground) -> Mapping[str, str]:
            raise OSError("no port is free")

    driver = Unprepared()
    with pytest.raises(OSError, match="no port is free"):
        Campaign(chosen(("linear",)), tmp_path).play(driver)
    assert driver.closed == 1


def test_a_calm_run_that_is_not_what_the_case_says_is_told(tmp_path: Path) -> None:
    (case,) = chosen(("linear",))
    wrong = case._replace(acts=(case.acts[0]._replace(output=4),))
    (one,) = Campaign([wrong], tmp_path).play(Liar())
    assert one.differences == ("the calm run: run 1 returned 3, and should have 4",)
