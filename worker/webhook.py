"""The webhook: one signed POST for each notice, with an idempotency key. Follows no redirect, reads no body."""

import ssl
import time
from collections.abc import Callable

import httpx

from worker.delivery import Undelivered
from worker.notice import Notice
from worker.settings import Webhook
from worker.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign

_BUSY = (408, 425, 429)
"""Answers that speak of the receiver and not of the notice."""


class WebhookDelivery:
    """Posts notices over one kept connection."""

    def __init__(self, settings: Webhook, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._client: httpx.Client | None = None

    def deliver(self, notice: Notice) -> None:
        """Returns on a 2xx answer."""
        body = notice.render().encode()
        timestamp = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": notice.key,
            "X-Stopbank-Event": notice.kind,
            TIMESTAMP_HEADER: str(timestamp),
            SIGNATURE_HEADER: sign(self._settings.secret, timestamp, body),
        }
        try:
            # Streamed, so that a receiver can't feed us an endless body.
            with self._connected().stream("POST", self._settings.url, content=body, headers=headers) as answer:
                status = answer.status_code
        except httpx.TimeoutException as error:
            why = f"no answer within {self._settings.timeout_seconds:g} s ({type(error).__name__})"
            raise Undelivered(why, is_receiver_down=True) from None
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            raise Undelivered(str(error) or type(error).__name__, is_receiver_down=True) from None
        if not 200 <= status < 300:
            raise Undelivered(f"HTTP status {status}", is_receiver_down=status >= 500 or status in _BUSY)

    def close(self) -> None:
        """Closes the kept connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> httpx.Client:
        """Made at first use: a missing certificate file is a failure to deliver, not to start."""
        if self._client is None:
            ca_file = self._settings.ca_file
            trust = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
            self._client = httpx.Client(
                verify=trust, timeout=self._settings.timeout_seconds, follow_redirects=False, trust_env=False
            )
        return self._client
