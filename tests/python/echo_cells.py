"""Talks to the example `echo` from outside: every server over every kind of address, with plain sockets.

    python3 echo_cells.py ECHO [--servers NAME ...] [--kinds NAME ...]

ECHO is the path of the built example. Prints one line per cell, and exits with 1 if one of them has failed.

A stream cell: 64 clients at once, each of which sends 1 MiB in pieces of odd sizes, half-closes, and must get every byte back.
A datagram cell: datagrams of several sizes must come back as they went. In the end SIGTERM must make the server exit with 0
and leave no socket file behind.
"""

import argparse
import concurrent.futures
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SERVERS = ["sequential", "threading", "forking-style", "event-loop"]
KINDS = {
    "tcp4": "tcp://127.0.0.1:0",
    "tcp6": "tcp://[::1]:0",
    "unix": "unix://{folder}/echo.sock",
    "udp4": "udp://127.0.0.1:0",
    "udp6": "udp://[::1]:0",
    "unixgram": "unixgram://{folder}/echo.sock",
}

CLIENTS = 64
STREAM_BYTES = 1 << 20
# 8193 is one more than CPython's own datagram server takes; the small ones at the end show that nothing is left over.
DATAGRAM_BYTES = [0, 1, 60000, 8193, 0, 1]

# Nothing takes nearly as long: they only make a hang a failure.
SOCKET_TIMEOUT = 30
CELL_TIMEOUT = 60


class Failed(Exception):
    """A cell did not do what it should."""


def main():
    """Runs the chosen cells and says which have failed."""
    parser = argparse.ArgumentParser(description="Tests the example `echo` on every server and kind of address.")
    parser.add_argument("echo", help="path of the built example")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=SERVERS)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    arguments = parser.parse_args()

    failures = 0
    for server in arguments.servers:
        for kind in arguments.kinds:
            began = time.monotonic()
            if kind.endswith("6") and not has_ipv6():
                outcome = "skipped: this machine has no IPv6"
            else:
                try:
                    run_cell(arguments.echo, server, kind)
                    outcome = "ok"
                except (Failed, OSError) as error:
                    outcome = f"FAILED: {error}"
                    failures += 1
            print(f"{server:14} {kind:9} {time.monotonic() - began:5.2f} s  {outcome}", flush=True)
    if failures:
        sys.exit(f"{failures} cells have failed")


def run_cell(echo, server, kind):
    """Starts the example, talks to it, ends it, and looks at what it has left."""
    with tempfile.TemporaryDirectory() as folder:
        bind = KINDS[kind].format(folder=folder)
        with running(echo, server, bind, folder) as (process, url):
            family, address = parse(url)
            if kind.startswith(("tcp", "unix")) and kind != "unixgram":
                check_streams(family, address)
            else:
                check_datagrams(family, address, folder)
            process.send_signal(signal.SIGTERM)
            status = process.wait(SOCKET_TIMEOUT)
            check(status == 0, f"SIGTERM ended it with status {status} instead of 0")
        check("echo.sock" not in os.listdir(folder), "it has left its socket file behind")


@contextlib.contextmanager
def running(echo, server, bind, folder):
    """Runs the example; gives the process and the URL that it printed. Whatever happens, it is killed and reaped at the end."""
    stderr_path = os.path.join(folder, "stderr")
    command = [echo, "--server", server, "--bind", bind]
    with open(stderr_path, "wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    # Ends whatever waits for the process, too.
    watchdog = threading.Timer(CELL_TIMEOUT, process.kill)
    watchdog.start()
    try:
        with process.stdout:
            line = process.stdout.readline()
            check(line.startswith("listening on ") and line.endswith("\n"), f"its first line is {line!r}")
            yield process, line[len("listening on ") : -1]
    except Exception as error:
        with open(stderr_path, encoding="utf-8", errors="replace") as stderr:
            what = str(error) or type(error).__name__
            raise Failed(f"{what}; its standard error: {stderr.read()[-1000:]!r}") from error
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def parse(url):
    """The address family and the address that the socket module wants for a URL."""
    scheme, rest = url.split("://", 1)
    if scheme.startswith("unix"):
        return socket.AF_UNIX, rest
    host, port = rest.rsplit(":", 1)
    host = host.strip("[]")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))


def check_streams(family, address):
    """All clients at once: none sends before all are connected."""
    all_connected = threading.Barrier(CLIENTS, timeout=SOCKET_TIMEOUT)
    with concurrent.futures.ThreadPoolExecutor(2 * CLIENTS) as threads:
        clients = [
            threads.submit(stream_client, family, address, number, all_connected, threads) for number in range(CLIENTS)
        ]
        for client in clients:
            client.result()


def stream_client(family, address, number, all_connected, threads):
    """Sends on one thread while it receives on another: a client that only sent would wait for ever for one that echoes."""
    pieces = random.Random(number)
    data = pieces.getrandbits(8 * STREAM_BYTES).to_bytes(STREAM_BYTES, "little")
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.settimeout(SOCKET_TIMEOUT)
        stream.connect(address)
        all_connected.wait()
        sending = threads.submit(send_in_pieces, stream, data, pieces)
        received = bytearray()
        while piece := stream.recv(65536):
            received += piece
        sending.result()
    check(len(received) == len(data), f"client {number} sent {len(data)} bytes and got {len(received)}")
    check(received == data, f"client {number} got other bytes than it sent")


def send_in_pieces(stream, data, pieces):
    """Sends everything, 1 to 20,000 bytes at a time, and half-closes."""
    start = 0
    while start < len(data):
        end = start + pieces.randint(1, 20000)
        stream.sendall(data[start:end])
        start = end
    stream.shutdown(socket.SHUT_WR)


def check_datagrams(family, address, folder):
    """One datagram after the other, each of which comes back whole and from the server's address."""
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(SOCKET_TIMEOUT)
        if family == socket.AF_UNIX:
            # Without a name of its own it could not be answered.
            client.bind(os.path.join(folder, "client.sock"))
        for size in DATAGRAM_BYTES:
            data = os.urandom(size)
            client.sendto(data, address)
            received, sender = client.recvfrom(65536)
            peer = sender if family == socket.AF_UNIX else sender[:2]
            check(peer == address, f"the reply to {size} bytes came from {sender}")
            check(len(received) == size, f"{size} bytes came back as {len(received)}")
            check(received == data, f"{size} bytes came back as other ones")


def has_ipv6():
    """Whether this machine has the loopback address of IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def check(condition, message):
    """Fails the cell unless the condition holds."""
    if not condition:
        raise Failed(message)


if __name__ == "__main__":
    main()
