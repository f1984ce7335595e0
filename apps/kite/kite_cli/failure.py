"""The one error a command ends with, and the exit codes of kitectl. Prints nothing."""

from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
# sysexits.h: EX_UNAVAILABLE, a part that is needed does not answer; EX_CONFIG, settings are wrong.
EXIT_UNAVAILABLE: Final = 69
EXIT_CONFIGURATION: Final = 78
EXIT_INTERRUPTED: Final = 130

EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 69 no Kite found or a part of it does not answer, "
    "78 wrong settings, 130 interrupted."
)


class CommandFailed(Exception):
    """A command cannot do what it was asked: `what` is one line, `advice` says what to do, neither has a secret in it."""

    def __init__(self, what: str, advice: str, code: int = EXIT_FAILED) -> None:
        super().__init__(f"{what}\n{advice}")
        self.what, self.advice, self.code = what, advice, code
