"""`python -m kite_replay`: run the service."""

import sys

from kite_replay.main import main

sys.exit(main())
