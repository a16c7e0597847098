"""Echoes on gevent's StreamServer: a greenlet for each connection."""

from gevent.server import StreamServer
from gevent.socket import IPPROTO_TCP, TCP_NODELAY


def echo(socket, address):
    while data := socket.recv(65536):
        socket.sendall(data)


server = StreamServer(("127.0.0.1", 0), echo, backlog=1024)
server.start()
# Connections inherit it.
server.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
print("listening on tcp://%s:%d" % server.address, flush=True)
server.serve_forever()
