"""`python -m atento`: the command line, as `torchrun -m atento train` starts it."""

import sys

from atento.cli import main

sys.exit(main())
