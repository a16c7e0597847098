"""Talks to the example `upper`.

    python3 upper_client.py URL

URL is where it listens, as it prints it. Exits with 1 if anything comes back other than it should.
"""

import os
import socket
import sys
import tempfile

# Nothing takes nearly as long: it only makes a hang a failure.
TIMEOUT = 30


def main():
    """Sends text and every byte, and compares."""
    scheme, family, address = parse(sys.argv[1])
    every_byte = bytes(range(256))
    for message in [b"hello, World\n", every_byte, "grüße".encode(), every_byte * 100]:
        if scheme in ("tcp", "unix"):
            answer = ask_stream(family, address, message)
        else:
            answer = ask_datagram(family, address, message)
        expected = bytes(byte - 32 if 97 <= byte <= 122 else byte for byte in message)
        assert answer == expected, f"{message[:40]!r} came back as {answer[:40]!r}"


def ask_stream(family, address, message):
    """A connection for one message, to its end."""
    with socket.create_connection(address, TIMEOUT) if family != socket.AF_UNIX else connect_unix(address) as stream:
        stream.sendall(message)
        stream.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := stream.recv(65536):
            answer += piece
        return answer


def connect_unix(path):
    """A connected Unix stream socket."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.settimeout(TIMEOUT)
    stream.connect(path)
    return stream


def ask_datagram(family, address, message):
    """One datagram, and the one that comes back."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(TIMEOUT)
        if family == socket.AF_UNIX:
            # Without a name of its own it could not be answered.
            client.bind(os.path.join(folder, "client.sock"))
        client.sendto(message, address)
        return client.recv(65536)


def parse(url):
    """The scheme, and the address family and address that the socket module wants."""
    scheme, rest = url.split("://", 1)
    if scheme.startswith("unix"):
        return scheme, socket.AF_UNIX, rest
    host, port = rest.rsplit(":", 1)
    host = host.strip("[]")
    return scheme, (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))


if __name__ == "__main__":
    main()
