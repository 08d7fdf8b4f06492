#!/usr/bin/env bash
# locate.sh DIR TREE DOMAIN ADDRESS
#
# Serves TREE at https://openpgpkey.DOMAIN/ in a network of its own and lets gpg find ADDRESS there; prints
# what gpg finds. State in DIR. Only root can: a name server on port 53, a web server on 443, and the machine's
# own resolv.conf and authorities replaced for these processes alone.
set -euo pipefail

if [ "${INSIDE:-}" != yes ]; then
  INSIDE=yes exec unshare --mount --net "$0" "$@"
fi
cd "$1"
TREE=$2 DOMAIN=$3 ADDRESS=$4

openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 \
  -subj "/CN=openpgpkey.$DOMAIN" -addext "subjectAltName=DNS:openpgpkey.$DOMAIN" 2>openssl.log
cat >unbound.conf <<CONF
server:
  interface: 127.0.0.1
  port: 53
  username: ""
  chroot: ""
  directory: "$1"
  pidfile: "$1/unbound.pid"
  use-syslog: no
  logfile: ""
  module-config: "iterator"
  local-zone: "." static
  local-data: "openpgpkey.$DOMAIN. A 127.0.0.1"
remote-control:
  control-enable: no
CONF
cat >serve.py <<'PYTHON'
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
PYTHON

ip link set lo up
echo "nameserver 127.0.0.1" >resolv.conf
mount --bind resolv.conf /etc/resolv.conf
mount --bind cert.pem /etc/ssl/certs/ca-certificates.crt
unbound -d -c unbound.conf >unbound.log 2>&1 &
python3 serve.py cert.pem key.pem "$TREE" >serve.log 2>&1 &
export GNUPGHOME=$1/gnupg
mkdir -m 700 "$GNUPGHOME"
end() {
  gpgconf --kill all
  kill %1 %2
  wait
}
trap end EXIT
for port in 53 443; do
  until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.05; done
done
gpg --batch --with-colons --auto-key-locate clear,nodefault,wkd --locate-keys "$ADDRESS" 2>gpg.log ||
  { cat gpg.log serve.log >&2; exit 1; }
