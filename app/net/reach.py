"""How far an address that a client names may lead: by default to https on the public internet."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from app.net.addresses import (
    IPAddress,
    is_forbidden_always,
    is_private,
    is_public,
    literal_ip,
    plain_host,
    unwrapped,
)
from app.net.origins import DEFAULT_PORTS

IPNetwork = IPv4Network | IPv6Network

NOT_PUBLIC = "must lead to a host on the public internet"
"""The answer whether or not a name resolves, so that nobody learns which private names exist."""

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_NAME = 253
_LONGEST_LABEL = 63
_PRIVATE_ZONES = frozenset({"localhost", "local", "internal", "localdomain", "home.arpa"})
_METADATA_NAMES = frozenset({"metadata.google.internal", "instance-data.ec2.internal"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the operator opened beyond the public internet.

    `private` adds this machine, private addresses, http and any port; `networks` add the same for
    their own addresses. Nothing opens link-local and metadata addresses.
    """

    private: bool = False
    networks: tuple[IPNetwork, ...] = ()

    def admits(self, ip: IPAddress, *, scheme: str, port: int | None) -> bool:
        """Check one address; of a name's addresses, all must be admitted."""
        if is_forbidden_always(ip):
            return False
        if any(unwrapped(ip) in network for network in self.networks):
            return True
        if self.private:
            return is_private(ip) or is_public(ip)
        return is_public(ip) and _is_plain_https(scheme, port)

    def flaw(self, *, scheme: str, host: str, port: int | None) -> str | None:
        """Say what is wrong as far as it shows without a look-up, as the end of a sentence."""
        return self._scheme_flaw(scheme, port) or self._host_flaw(host, scheme=scheme, port=port)

    def _scheme_flaw(self, scheme: str, port: int | None) -> str | None:
        if self.private or self.networks:
            return None if scheme in DEFAULT_PORTS else "must be an https:// or http:// URL"
        if scheme != "https":
            return "must be an https:// URL"
        if not _is_plain_https(scheme, port):
            return f"must use port {DEFAULT_PORTS['https']}, which https:// does without naming it"
        return None

    def _host_flaw(self, host: str, *, scheme: str, port: int | None) -> str | None:
        if ip := literal_ip(host):
            if "%" in host:
                return "must name an address without a zone"
            return None if self.admits(ip, scheme=scheme, port=port) else NOT_PUBLIC
        name = dns_name(host)
        if name is None:
            return "names no valid host"
        if name in _METADATA_NAMES:
            return NOT_PUBLIC
        # Only a look-up tells which of the networks a private name belongs to.
        is_open = self.private or bool(self.networks) or _is_public_name(name)
        return None if is_open else NOT_PUBLIC


PUBLIC = Reach()


def dns_name(host: str) -> str | None:
    """Fold `host` to the ASCII name that would be looked up; None if none would be."""
    name = plain_host(host).removesuffix(".")
    if not name.isascii():
        # Its ASCII form is longer still, and takes the square of a label's length to write.
        if len(name) > _LONGEST_NAME or any(len(part) > _LONGEST_LABEL for part in name.split(".")):
            return None
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    labels = name.split(".")
    # Browsers and resolvers take a name whose last label is a number for an address.
    if len(name) > _LONGEST_NAME or _NUMBER.fullmatch(labels[-1]):
        return None
    return name if all(map(_LABEL.fullmatch, labels)) else None


def _is_plain_https(scheme: str, port: int | None) -> bool:
    return scheme == "https" and port in (None, DEFAULT_PORTS["https"])


def _is_public_name(name: str) -> bool:
    labels = name.split(".")
    zones = {labels[-1], ".".join(labels[-2:])}
    return len(labels) > 1 and _PRIVATE_ZONES.isdisjoint(zones)
