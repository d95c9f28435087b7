"""A sample of the conformance suite on every engine, really running; PENSTOCK_TEST_SEEDS=8 draws more pipelines.

The engines: those with a driver in `engines/`, or those that PENSTOCK_TEST_ENGINES names, with commas.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.testing.conformance.campaign import Campaign, Played
from penstock.testing.conformance.catalogue import chosen
from penstock.testing.conformance.driving import driver_of
from penstock.testing.conformance.generating import generated_cases

ROOT = Path(__file__).parents[2]
SEEDS = range(int(os.environ.get("PENSTOCK_TEST_SEEDS", "2")))  # generated pipelines, besides the cases
_DRIVERS = sorted(path.stem.removeprefix("conformance_") for path in ROOT.glob("engines/conformance_*.py"))
ENGINES = os.environ["PENSTOCK_TEST_ENGINES"].split(",") if "PENSTOCK_TEST_ENGINES" in os.environ else _DRIVERS
NAMES = [*(case.name for case in chosen(sample=True)), *(f"generated_{seed}" for seed in SEEDS)]


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    folder = tmp_path_factory.mktemp("conformance")
    return Campaign((*chosen(sample=True), *generated_cases(SEEDS, folder / "generated")), folder)


@pytest.fixture(scope="session")
def played(campaign: Campaign) -> dict[str, dict[str, Played]]:
    """Engine -> case -> what became of it; an engine is started when its first case is asked for."""
    return {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_case_means_the_same_on_the_engine(
    campaign: Campaign, played: dict[str, dict[str, Played]], engine: str, name: str
) -> None:
    if engine not in played:
        played[engine] = {one.case.name: one for one in campaign.play(driver_of(engine, ROOT))}
    one = played[engine][name]
    assert one.verdict in ("kept", "refused"), "\n".join(one.differences)
