"""Echoes on CPython's ThreadingTCPServer, or with --udp on its ThreadingUDPServer."""

import socketserver
import sys
from socket import IPPROTO_TCP, TCP_NODELAY


class EchoStream(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class EchoDatagram(socketserver.BaseRequestHandler):
    def handle(self):
        data, socket = self.request
        socket.sendto(data, self.client_address)


class TCPServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    # Its own default of 5 would measure how clients repeat what the kernel has dropped.
    request_queue_size = 1024

    def server_bind(self):
        # Connections inherit it.
        self.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        super().server_bind()


class UDPServer(socketserver.ThreadingUDPServer):
    daemon_threads = True
    max_packet_size = 65536


if "--udp" in sys.argv:
    scheme, server = "udp", UDPServer(("127.0.0.1", 0), EchoDatagram)
else:
    scheme, server = "tcp", TCPServer(("127.0.0.1", 0), EchoStream)
print("listening on %s://%s:%d" % (scheme, *server.server_address), flush=True)
server.serve_forever()
