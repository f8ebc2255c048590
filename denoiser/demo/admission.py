"""Who may join the queue when it is full: in the order of coming, as those who were refused ask again."""

import time

PATIENCE_SECONDS = 10.0
"""How long a place is kept for someone who does not ask again; the page asks every few seconds."""


class Admission:
    """The places behind a queue of bounded length.

    Args:
        size: Length of the queue.
        max_address: Places behind it for one network address.
    """

    def __init__(self, size: int, max_address: int):
        self.size, self.max_address = size, max_address
        self._asked: dict[str, tuple[str, float]] = {}  # session -> address and when it last asked, the first first

    def ask(self, session: str, address: str, waiting: int) -> int:
        """Ask to join a queue in which ``waiting`` calls are -> 0 if there is room, or else one's place."""
        now = time.monotonic()
        for other, (_, asked) in list(self._asked.items()):
            if now - asked > PATIENCE_SECONDS:
                del self._asked[other]
        others = list(self._asked)
        ahead = others.index(session) if session in self._asked else len(others)
        if waiting + ahead < self.size:
            self._asked.pop(session, None)
            return 0
        of_address = sum(known == address for known, _ in self._asked.values())
        if session in self._asked or of_address < self.max_address:
            self._asked[session] = address, now
        return waiting + ahead + 1
