"""The shop: sessions, carts and a count of orders, all in bounded memory."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

MAX_SESSIONS = 10_000
MAX_QUANTITY = 100


@dataclass(frozen=True)
class Product:
    id: int
    name: str
    price_cents: int


PRODUCTS = {
    number: Product(number, name, 250 + 175 * number)
    for number, name in enumerate(
        [
            "Kettle",
            "Mug",
            "Teapot",
            "Tray",
            "Jar",
            "Whisk",
            "Bowl",
            "Ladle",
            "Grater",
            "Sieve",
            "Carafe",
            "Trivet",
        ],
        start=1,
    )
}


@dataclass
class Session:
    username: str
    cart: dict[int, int] = field(default_factory=dict)

    @property
    def total_cents(self) -> int:
        return sum(PRODUCTS[number].price_cents * n for number, n in self.cart.items())


class Shop:
    """Keeps MAX_SESSIONS sessions; beyond that the least recently used one is removed."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self.orders = 0

    def login(self, username: str) -> str:
        """A new session's token."""
        token = secrets.token_urlsafe(24)
        self._sessions[token] = Session(username)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def session(self, token: str | None) -> Session | None:
        if token is None or token not in self._sessions:
            return None
        self._sessions.move_to_end(token)
        return self._sessions[token]

    def end(self, token: str | None) -> None:
        """Remove a session, if there is one."""
        self._sessions.pop(token or "", None)

    def checkout(self, session: Session) -> tuple[str, int]:
        """(order id, total in cents); empties the cart, which must not be empty."""
        total = session.total_cents
        session.cart.clear()
        self.orders += 1
        return f"order-{self.orders:06d}", total
