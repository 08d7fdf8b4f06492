#!/usr/bin/env bash
# locate.sh DIR DOMAIN ADDRESS gpg|sq|SCRIPT COMMAND…
#
# Runs COMMAND, which serves https://openpgpkey.DOMAIN/ at 127.0.0.1:443 with DIR/cert.pem and DIR/key.pem, in a network of its own and lets gpg
# or sq find ADDRESS there, or a SCRIPT like wks_client.py; prints what that prints: colon lines, or a certificate. State in DIR. Only root can: a name server on port 53, a web server on 443, and the machine's
# own resolv.conf and authorities replaced for these processes alone.
set -euo pipefail

if [ "${INSIDE:-}" != yes ]; then
  INSIDE=yes exec unshare --mount --net "$0" "$@"
fi
cd "$1"
DIR=$1 DOMAIN=$2 ADDRESS=$3 PROGRAM=$4
shift 4

openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 \
  -subj "/CN=openpgpkey.$DOMAIN" -addext "subjectAltName=DNS:openpgpkey.$DOMAIN" 2>openssl.log
cat >unbound.conf <<CONF
server:
  interface: 127.0.0.1
  port: 53
  username: ""
  chroot: ""
  directory: "$DIR"
  pidfile: "$DIR/unbound.pid"
  use-syslog: no
  logfile: ""
  module-config: "iterator"
  local-zone: "." static
  local-data: "openpgpkey.$DOMAIN. A 127.0.0.1"
remote-control:
  control-enable: no
CONF
ip link set lo up
echo "nameserver 127.0.0.1" >resolv.conf
mount --bind resolv.conf /etc/resolv.conf
mount --bind cert.pem /etc/ssl/certs/ca-certificates.crt
unbound -d -c unbound.conf >unbound.log 2>&1 &
"$@" >serve.log 2>&1 &
export GNUPGHOME=$DIR/gnupg
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
case $PROGRAM in
  gpg) gpg --batch --with-colons --auto-key-locate clear,nodefault,wkd --locate-keys "$ADDRESS" ;;
  sq) sq wkd get "$ADDRESS" ;;
  *) python3 "$PROGRAM" "$ADDRESS" 10024 10027 ;;
esac 2>find.log || { cat find.log serve.log >&2; exit 1; }
