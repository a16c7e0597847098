"""Sends files to the example `file_upload`.

    python3 file_upload_client.py URL

URL is where it listens, as it prints it. Its folder must be empty, and has `empty`, `large` and `small` afterwards. Exits with 1 if
an answer is another than it should be.
"""

import hashlib
import json
import os
import socket
import struct
import sys

# Nothing takes nearly as long: it only makes a hang a failure.
TIMEOUT = 30


def main():
    """Files that are taken, and such that are refused, over one connection; and what is none."""
    large = os.urandom(3_000_000)
    with connect(sys.argv[1]) as stream:
        for name, content in [("empty", b""), ("small", b"hello"), ("large", large)]:
            send(stream, name, content)
            assert receive(stream) == {"ok": True}, name
        for name in ["small", "", "..", "a/b"]:
            send(stream, name, b"other")
            reply = receive(stream)
            assert reply["ok"] is False and reply["error"], (name, reply)
        send(stream, "wrong", b"hello", hashlib.sha256(b"other").hexdigest())
        assert "sha256" in receive(stream)["error"]

    with connect(sys.argv[1]) as stream:
        stream.sendall(struct.pack(">I", 0xFFFFFFFF))
        reply = receive(stream)
        assert reply["ok"] is False and "limit" in reply["error"], reply
        assert stream.recv(1) == b"", "a connection that makes no sense is closed"


def connect(url):
    """A connection to the server."""
    scheme, rest = url.split("://", 1)
    if scheme == "unix":
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(TIMEOUT)
        stream.connect(rest)
        return stream
    host, port = rest.rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)), TIMEOUT)


def send(stream, name, content, sha256=None):
    """Sends a file."""
    header = {"name": name, "size": len(content), "sha256": sha256 or hashlib.sha256(content).hexdigest()}
    header = json.dumps(header).encode()
    stream.sendall(struct.pack(">I", len(header)) + header)
    stream.sendall(content)


def receive(stream):
    """The next reply."""
    (length,) = struct.unpack(">I", receive_exactly(stream, 4))
    return json.loads(receive_exactly(stream, length))


def receive_exactly(stream, count):
    """The next bytes of a connection: one `recv` may give fewer."""
    received = bytearray()
    while len(received) < count:
        piece = stream.recv(count - len(received))
        if not piece:
            raise EOFError(f"the connection ended after {len(received)} of {count} bytes")
        received += piece
    return bytes(received)


if __name__ == "__main__":
    main()
