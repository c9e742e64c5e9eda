"""`python -m bench`: the same as `fastmta bench`, from a source tree."""

import sys

from fastmta.lab.bench import run_bench

sys.exit(run_bench(sys.argv[1:]))
