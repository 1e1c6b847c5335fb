"""What each training method costs beside plain fine-tuning, from the record: writes methods.md.

    python benchmarks/methods.py [--check]

With --check nothing is written; the exit code is 1 where methods.md is not what the record gives.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src")]

from xlscale.core.files import write_text  # noqa: E402
from xlscale.report.sections import method_costs, method_gains  # noqa: E402

PAGE = HERE / "methods.md"
TEXT = """# What training methods cost

All training behind a target cell of the study `methods`, seconds of one thread, and as multiples of plain fine-tuning
("no intermediate training") of the same target, rung and seed: medians over targets and seeds. *Before* is training
before the target's, *Target* that of the target. Peak memory is that of the larger of the two. Operations are counted,
those of heads left out: the output layer of language modelling, a product with the whole vocabulary, is in the time
alone; other work on the machine is in the time, too. Made by `python benchmarks/methods.py` from the record.

"""


def main() -> int:
    """Write the page, or say whether it is what the record gives; 0 if it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    text = TEXT + method_costs.markdown(method_costs.costs(method_gains.recorded()))
    if not options.check:
        write_text(PAGE, text)
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        print("benchmarks/methods.md is not what the record gives: run python benchmarks/methods.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
