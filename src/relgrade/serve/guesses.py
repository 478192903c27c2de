"""How many wrong keys an address may send before its keys are no longer looked at.

A key that was right from the same address within the hour still is: whoever guesses behind a shared proxy must not lock
out those who call through it all day. A caller without such a key waits, right or wrong, and cannot tell which it was.
It knows addresses and names of keys, never keys.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from relgrade.serve.refusals import RateLimited

WRONG_PER_MINUTE = 30.0  # of one address; an address that rested may send them at once
KNOWN_S = 3600.0  # how long a right key stays known
MAX_ADDRESSES = 10_000  # that are remembered; the longest silent is forgotten first


@dataclass
class _Address:
    """What is known of one."""

    n_left: float
    filled_s: float
    right: dict[str, float] = field(default_factory=dict)  # name of a key -> when it was last right


class Guesses:
    """See the module.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._addresses: OrderedDict[str, _Address] = OrderedDict()

    def judge(self, address: str | None, name: str | None) -> None:
        """Count a key that was sent.

        Args:
            address: of the caller; None: not counted.
            name: of the key; None: a wrong one.

        Raises:
            RateLimited: the address has used up its wrong keys, and this is none that it is known for.
        """
        if address is None:
            return
        now_s = self._clock()
        found = self._addresses.setdefault(network_of(address), _Address(WRONG_PER_MINUTE, now_s))
        self._addresses.move_to_end(network_of(address))
        while len(self._addresses) > MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        found.n_left = min(WRONG_PER_MINUTE, found.n_left + (now_s - found.filled_s) * WRONG_PER_MINUTE / 60)
        found.filled_s = now_s
        is_known = name is not None and now_s - found.right.get(name, -KNOWN_S) < KNOWN_S
        if found.n_left < 1.0 and not is_known:
            wait_s = (1.0 - found.n_left) * 60 / WRONG_PER_MINUTE
            raise RateLimited("too many wrong keys came from this address", retry_after_s=wait_s)
        if name is None:
            found.n_left -= 1.0
        else:
            found.right[name] = now_s


def network_of(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 address, all of which belongs to one customer."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a socket that is no address
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)
