"""Connections that take too long to say what they want or to take what they are told: uvicorn waits without end."""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 with limits on a slow client.

    Its request line and headers must arrive within `header_timeout_s` of their first byte. When so much waits to be
    sent that the answer is held up, it must take most of it within `write_timeout_s`, and the last bytes as well. After
    an answer that did not wait for the whole body, as a refusal does, the rest has `header_timeout_s` to arrive.
    """

    header_timeout_s = 10.0
    write_timeout_s = 30.0
    _timer: asyncio.TimerHandle | None = None  # for headers
    _write_timer: asyncio.TimerHandle | None = None
    _rest_timer: asyncio.TimerHandle | None = None  # for a body that nobody reads

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A new connection has so long for its first request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._arm()

    def data_received(self, data: bytes) -> None:
        """Bytes came: a request began, or its headers are complete."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._arm()
        else:
            self._disarm()
        if self.conn.their_state is not h11.SEND_BODY:
            self._disarm_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._disarm()
        self._disarm_write()
        self._disarm_rest()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take what was sent."""
        super().pause_writing()
        self._arm_write()

    def resume_writing(self) -> None:
        """It took most of it."""
        if not self.transport.is_closing():
            self._disarm_write()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """A connection that is closed now must not wait for ever for its last bytes to be taken."""
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._arm_write()
        if self.conn.their_state is h11.SEND_BODY and self._rest_timer is None:
            self._rest_timer = self.loop.call_later(self.header_timeout_s, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP, perhaps in the middle of a body whose request is being answered: nobody hears that."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        self._arm_write()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for long; what is still to be taken will not be."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.header_timeout_s, self._give_up)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _arm_write(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.write_timeout_s, self.transport.abort)

    def _disarm_write(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _disarm_rest(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None


def guarded(header_timeout_s: float, *, write_timeout_s: float) -> type[GuardedProtocol]:
    """The protocol with its limits; uvicorn makes instances without arguments of ours."""
    limits = {"header_timeout_s": header_timeout_s, "write_timeout_s": write_timeout_s}
    return type("GuardedProtocol", (GuardedProtocol,), limits)
