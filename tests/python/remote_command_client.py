"""Talks to the example `remote_command` over a connection.

    python3 remote_command_client.py URL

URL is where it listens, as it prints it. Exits with 1 if anything comes back other than it should.
"""

import json
import socket
import struct
import sys

# Nothing takes nearly as long: it only makes a hang a failure.
TIMEOUT = 30


def main():
    """Commands one by one, and glued together; and one that is none."""
    with connect(sys.argv[1]) as stream:
        send(stream, "echo hello; echo problem >&2; exit 3")
        assert receive(stream) == ({"status": 3, "stdout": 6, "stderr": 8}, b"hello\n", b"problem\n")

        commands = [f"echo {number}; exit {number}" for number in range(20)]
        stream.sendall(b"".join(frame(command.encode()) for command in commands))
        for number in range(20):
            header, stdout, stderr = receive(stream)
            assert (header["status"], stdout, stderr) == (number, b"%d\n" % number, b""), (number, header, stdout, stderr)

        send(stream, "head -c 300000 /dev/zero")
        assert receive(stream)[1] == bytes(300000)

    with connect(sys.argv[1]) as stream:
        stream.sendall(struct.pack(">I", 0xFFFFFFFF))
        header, _, _ = receive(stream)
        assert header["status"] == 255 and "limit" in header["error"], header
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


def frame(payload):
    """A message as it is sent."""
    return struct.pack(">I", len(payload)) + payload


def send(stream, command):
    """Sends a command."""
    stream.sendall(frame(command.encode()))


def receive(stream):
    """The header of a reply, and what the command wrote to its output and to its error output."""
    (length,) = struct.unpack(">I", receive_exactly(stream, 4))
    header = json.loads(receive_exactly(stream, length))
    return header, receive_exactly(stream, header["stdout"]), receive_exactly(stream, header["stderr"])


def receive_exactly(stream, count):
    """The next bytes of a connection: one `recv` may give fewer."""
    received = bytearray()
    while len(received) < count:
        piece = stream.recv(min(65536, count - len(received)))
        if not piece:
            raise EOFError(f"the connection ended after {len(received)} of {count} bytes")
        received += piece
    return bytes(received)


if __name__ == "__main__":
    main()
