"""Errors that reach a user: one line that says where, what was found, what was expected, and the mend."""


class RollgateError(Exception):
    """Base of all errors that end in a clear line and an exit code instead of a traceback."""

    exit_code = 4

    def __init__(self, message: str, *, mend: str = "") -> None:
        """Keep `message` and the `mend` apart, so that listeners may show them as they like."""
        super().__init__(f"{message} — {mend}" if mend else message)
        self.message = message
        self.mend = mend


class SpecError(RollgateError):
    """Bad input: exit code 2. `where` is "file:line", `key` the dotted key."""

    exit_code = 2

    def __init__(self, message: str, *, where: str = "", key: str = "", mend: str = "") -> None:
        """Compose "file:line: key: message"."""
        super().__init__(": ".join(part for part in (where, key, message) if part), mend=mend)
        self.message = message
        self.where = where
        self.key = key


class EnvironmentProblem(RollgateError):
    """The machine or the harness, not the release: exit code 4."""


class LostLeaseError(RollgateError):
    """Another driver holds a newer fencing token: this one must not move traffic."""
