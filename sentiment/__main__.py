"""`python -m sentiment`: the same as the command `sentiment`."""

import sys

from sentiment.cli import main

sys.exit(main())
