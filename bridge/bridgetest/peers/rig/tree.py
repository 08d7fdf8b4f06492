"""tree.py CERT KEY TREE: serves the files of TREE at https://127.0.0.1/"""
import http.server
import ssl
import sys

cert, key, tree = sys.argv[1:]
handler = lambda *a: http.server.SimpleHTTPRequestHandler(*a, directory=tree)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
