"""The conformance suite on the local engine: side by side in worker processes, and a process for each step."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.testing.conformance.campaign import Campaign, Played, surprises
from penstock.testing.conformance.case import Case
from penstock.testing.conformance.catalogue import CASES
from penstock.testing.conformance.driving import driver_of

by_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(CASES, tmp_path_factory.mktemp("conformance"))


@pytest.fixture(scope="module", params=["local", "apart"])
def played(request: pytest.FixtureRequest, campaign: Campaign) -> dict[str, Played]:
    return {one.case.name: one for one in campaign.play(driver_of(request.param, Path()))}


@by_case
def test_a_calm_run_comes_to_what_the_case_says(campaign: Campaign, case: Case) -> None:
    happened = campaign.calm()[case.name]
    assert not isinstance(happened, str), happened
    assert surprises(case.script(full=False), happened.observed) == []


@by_case
def test_a_case_means_the_same_in_every_mode_of_the_local_engine(played: dict[str, Played], case: Case) -> None:
    assert (played[case.name].verdict, played[case.name].differences) == ("kept", ())
