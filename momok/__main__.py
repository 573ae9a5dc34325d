"""`python -m momok`: the command line."""

import sys

from momok.cli import main

sys.exit(main())
