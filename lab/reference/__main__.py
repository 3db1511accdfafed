"""`python3 -m reference`."""

import sys

from .node import main

sys.exit(main())
