"""Where the local stack keeps its things. Creates nothing."""

import os
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[4]


def home() -> Path:
    """The checkout this runs from, or the working directory where Kite is an installed package."""
    return _CHECKOUT if (_CHECKOUT / "requirements.lock").is_file() else Path.cwd()


def data_folder() -> Path:
    """The folder of one stack's data: KITE_DATA_DIR, or `.kite` at home."""
    return Path(os.environ.get("KITE_DATA_DIR") or home() / ".kite").resolve()


def lib_folder() -> Path:
    """The folder of downloaded parts, shared by all stacks: KITE_LIB_DIR, or `.kite/lib` at home."""
    return Path(os.environ.get("KITE_LIB_DIR") or home() / ".kite" / "lib").resolve()


def lock_of(data: Path) -> Path:
    """The lock file of a data folder."""
    return data.resolve() / "lock"


def state_of(data: Path) -> Path:
    """The state file of a data folder."""
    return data.resolve() / "state.json"
