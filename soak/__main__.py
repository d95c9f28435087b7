"""`python -m soak`: kill and resume, print what came of it, and write docs/soak.md."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from itertools import count
from pathlib import Path
from time import monotonic

import penstock

from . import report
from .campaign import Campaign
from .code import SOURCE
from .strikes import plan


def main() -> int:
    arguments = _arguments()
    if arguments.check:
        why = report.stale()
        print(f"docs/soak.md is stale: {why}. Run: make soak" if why else "docs/soak.md is about this code")
        return 1 if why else 0
    if Path(penstock.__file__).parent != SOURCE:
        sys.exit("the penstock that Python imports here is not the one of this checkout: pip install -e .")
    for each in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background job is born deaf to it
        signal.signal(each, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="penstock-soak-"))
    campaign = Campaign(folder, arguments.seed)
    try:
        return _one(campaign, arguments.case) if arguments.case is not None else _all(campaign, arguments)
    finally:
        campaign.close()
        if campaign.broken:
            print(f"what broken cases left is in {folder}")
        else:
            shutil.rmtree(folder)


def _all(campaign: Campaign, arguments: argparse.Namespace) -> int:
    begun = monotonic()
    interrupted = False
    try:
        for line in campaign.calm():
            print(line, flush=True)
        for number in count():
            if campaign.kills >= arguments.kills:
                break
            print(campaign.play(plan(arguments.seed, number)), flush=True)
    except KeyboardInterrupt:
        interrupted = True
    page = report.page(campaign, monotonic() - begun)
    print(f"\n{page}")
    if interrupted:
        print("interrupted: docs/soak.md stays as it was")
    elif not arguments.no_page:
        report.PAGE.write_text(page, encoding="utf-8")
        print("docs/soak.md is written")
    return 130 if interrupted else 1 if campaign.broken else 0


def _one(campaign: Campaign, number: int) -> int:
    chosen = plan(campaign.seed, number)
    for line in campaign.calm((chosen.cell,)):
        print(line, flush=True)
    print("planned:", "; ".join(map(str, chosen.strikes)))
    print(campaign.play(chosen))
    return 1 if campaign.broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=report.WANTED, metavar="N", help="stop after so many (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the campaign (%(default)s)")
    parser.add_argument("--case", type=int, metavar="N", help="play this one case again")
    parser.add_argument("--no-page", action="store_true", help="do not write docs/soak.md")
    parser.add_argument("--check", action="store_true", help="only say whether docs/soak.md is about this code")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
