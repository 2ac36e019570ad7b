"""The users of Locust, which has an environment of its own and none of this project's modules.

Each has the sessions of the agents: every endpoint once, in turn. LOAD_RATE: sessions per second of
a user. LOAD_TIMES: the file for the seconds of all requests by endpoint; Locust's own statistics
are rounded to two digits above 100 ms.
"""

# Locust is not there for mypy.
# mypy: disable-error-code="import-not-found,import-untyped,misc,untyped-decorator"

import json
import os
import random
from collections import defaultdict
from pathlib import Path

import gevent
from locust import FastHttpUser, constant_throughput, events, task

RATE = float(os.environ["LOAD_RATE"])
times: dict[str, list[float]] = defaultdict(list)


class User(FastHttpUser):
    wait_time = constant_throughput(RATE)

    def on_start(self) -> None:
        # Else all users would begin each of their sessions at the same moment.
        gevent.sleep(random.uniform(0, 1 / RATE))  # noqa: S311

    @task
    def session(self) -> None:
        item = {"product_id": 1, "quantity": 1}
        self.client.get("/products", name="GET /products")
        self.client.get("/products/1", name="GET /products/{id}")
        self.client.post("/cart/items", json=item, name="POST /cart/items")
        self.client.post("/checkout", name="POST /checkout")


@events.request.add_listener
def on_request(name: str, response_time: float, exception: object, **_: object) -> None:
    times[name if exception is None else "failed"].append(response_time / 1000)


@events.quitting.add_listener
def on_quitting(**_: object) -> None:
    Path(os.environ["LOAD_TIMES"]).write_text(json.dumps(times))
