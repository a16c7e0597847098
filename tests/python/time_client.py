"""Talks to the example `time_server`, and compares its answers with Python's own `strftime`.

    python3 time_client.py URL

URL is where it listens, as it prints it. Exits with 1 if an answer is wrong.
"""

import os
import socket
import sys
import tempfile
import time

# Nothing takes nearly as long: it only makes a hang a failure.
TIMEOUT = 30

FORMATS = ["%Y-%m-%d %X", "%H:%M:%S", "%A, %d %B %Y", "%a %b %j %y %I %p", "%s", "%z", "100 %%"]


def main():
    """Asks for the time in several formats, and for what is none."""
    scheme, rest = sys.argv[1].split("://", 1)
    with tempfile.TemporaryDirectory() as folder:
        with connect(scheme, rest, folder) as server:
            ask = ask_line if scheme in ("tcp", "unix") else ask_datagram
            for request in FORMATS + [""]:
                check(lambda: ask(server, request.encode()), request or "%Y-%m-%d %X")
            for request in [b"%!", b"%", b"%Y\xff", b"%Y" * 200]:
                answer = ask(server, request)
                assert answer.startswith("! "), f"{request!r} was answered by {answer!r}"


def check(ask, expected):
    """The answer is the time before or after it came: if a second has passed meanwhile, it may be either."""
    before = now(expected)
    answer = ask()
    after = now(expected)
    assert before <= answer <= after or answer in (before, after), f"{expected!r}: {answer!r}, and it is {after!r}"


def now(expected):
    """The local time. Without its second argument, `strftime` would ask a clock that may be some milliseconds late."""
    return time.strftime(expected, time.localtime(time.time()))


def ask_line(server, request):
    """A line, and the line that comes back."""
    server.sendall(request + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        piece = server.recv(4096)
        assert piece, "the server has closed the connection"
        answer += piece
    return answer.decode()[:-1]


def ask_datagram(server, request):
    """A datagram, and the one that comes back."""
    server.send(request)
    return server.recv(4096).decode()


def connect(scheme, rest, folder):
    """A socket that is connected to the server."""
    kind = socket.SOCK_STREAM if scheme in ("tcp", "unix") else socket.SOCK_DGRAM
    if scheme.startswith("unix"):
        server = socket.socket(socket.AF_UNIX, kind)
        address = rest
        if kind == socket.SOCK_DGRAM:
            # Without a name of its own it could not be answered.
            server.bind(os.path.join(folder, "client.sock"))
    else:
        host, port = rest.rsplit(":", 1)
        host = host.strip("[]")
        server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        address = (host, int(port))
    server.settimeout(TIMEOUT)
    server.connect(address)
    return server


if __name__ == "__main__":
    main()
