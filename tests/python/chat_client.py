"""Talks to the example `chat`: several members in one script.

    python3 chat_client.py URL

URL is where it listens, as it prints it; nobody else may be in the room. Exits with 1 if a member hears anything else than it
should.
"""

import os
import socket
import sys
import tempfile

# Nothing takes nearly as long: it only makes a hang a failure.
TIMEOUT = 30


class Member:
    """Somebody in the room, by a connection or by datagrams."""

    def __init__(self, url, folder, name):
        scheme, rest = url.split("://", 1)
        self.is_stream = scheme in ("tcp", "unix")
        kind = socket.SOCK_STREAM if self.is_stream else socket.SOCK_DGRAM
        if scheme.startswith("unix"):
            self.socket = socket.socket(socket.AF_UNIX, kind)
            address = rest
            if not self.is_stream:
                # Without a name of its own it could hear nothing.
                self.socket.bind(os.path.join(folder, name))
        else:
            host, port = rest.rsplit(":", 1)
            host = host.strip("[]")
            self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
            address = (host, int(port))
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(address)
        self.heard = b""

    def says(self, line):
        """Sends a line: a datagram is one, and needs no end."""
        data = line if isinstance(line, bytes) else line.encode()
        self.socket.sendall(data + b"\n" if self.is_stream else data)

    def line(self):
        """The next line without its end; None at the end of the connection."""
        while b"\n" not in self.heard:
            piece = self.socket.recv(65536)
            if not piece:
                return None
            self.heard += piece
        line, self.heard = self.heard.split(b"\n", 1)
        return line.decode()

    def hears(self, *lines):
        """Waits for these lines, one after another."""
        for expected in lines:
            line = self.line()
            assert line == expected, f"heard {line!r} instead of {expected!r}"


def main():
    """A conversation."""
    url = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        alice, bob, carol = (Member(url, folder, name) for name in ("a", "b", "c"))
        alice.says("alice")
        # Nobody else is there to see her come. Two datagrams may change places on their way through the server.
        while not (line := ask_who(alice)).startswith("* 1 here: alice"):
            assert line.startswith("! a nick does not begin"), line
        bob.says("alice")
        bob.hears("! nick taken")
        bob.says("bob")
        alice.hears("* bob joined")
        carol.says("carol")
        alice.hears("* carol joined")
        bob.hears("* carol joined")

        alice.says("hello")
        bob.hears("alice: hello")
        carol.hears("alice: hello")
        bob.says("/me wears a grüne Mütze")
        alice.hears("* bob wears a grüne Mütze")
        carol.hears("* bob wears a grüne Mütze")
        carol.says("/who")
        carol.hears("* 3 here: alice, bob, carol")
        carol.says(b"\xff\xfe")
        carol.hears("! this is not UTF-8")
        carol.says("/quit")
        alice.hears("* carol left")
        bob.hears("* carol left")
        if carol.is_stream:
            carol.hears(None)
            # Two lines in one piece, and one in two.
            bob.socket.sendall(b"one\ntwo\nth")
            alice.hears("bob: one", "bob: two")
            bob.socket.sendall(b"ree\n")
            alice.hears("bob: three")
            bob.socket.close()
        else:
            bob.says("/quit")
        alice.hears("* bob left")


def ask_who(member):
    """What comes back for `/who`."""
    member.says("/who")
    return member.line()


if __name__ == "__main__":
    main()
