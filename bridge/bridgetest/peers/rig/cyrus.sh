#!/usr/bin/env bash
# Cyrus IMAP on a free loopback port with TLS, all state in DIR: a provider with CONDSTORE, OBJECTID, QUOTA
# and special uses of its own making.
#
#   cyrus.sh start DIR     writes DIR/env: IMAPS_PORT, CA_PEM
#   cyrus.sh stop DIR
#
# One user, alice, password alice-secret.
set -euo pipefail

DIR=$2

# Installed, or unpacked to the side: Debian's package excludes Dovecot's.
BIN=/usr/lib/cyrus/bin
[ -x "$BIN/imapd" ] || BIN=/usr/local/lib/cyrus-imapd$BIN

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

write_conf() {
  cat >"$DIR/imapd.conf" <<CONF
configdirectory: $DIR/conf
partition-default: $DIR/spool
defaultpartition: default
admins: admin
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: $DIR/sasldb2
sasl_mech_list: PLAIN
allowplaintext: no
virtdomains: off
unixhierarchysep: yes
altnamespace: yes
tls_server_cert: $DIR/cert.pem
tls_server_key: $DIR/key.pem
conversations: yes
conversations_db: twoskip
lmtpsocket: $DIR/run/lmtp
idlesocket: $DIR/run/idle
notifysocket: $DIR/run/notify
autocreate_quota: 100000
autocreate_post: yes
autocreate_inbox_folders: Drafts|Sent|Archive
CONF
  cat >"$DIR/cyrus.conf" <<CONF
START {
  recover cmd="/usr/sbin/cyrus ctl_cyrusdb -C $DIR/imapd.conf -r"
}
SERVICES {
  imaps cmd="$BIN/imapd -C $DIR/imapd.conf -s" listen="127.0.0.1:$IMAPS_PORT" prefork=0 maxchild=100
}
DAEMON {
  idled cmd="$BIN/idled -C $DIR/imapd.conf"
}
CONF
}

start() {
  IMAPS_PORT=$(free_port)
  mkdir -p "$DIR/conf/socket" "$DIR/spool" "$DIR/run"
  openssl req -x509 -newkey rsa:2048 -nodes -keyout "$DIR/key.pem" -out "$DIR/cert.pem" -days 30 \
    -subj /CN=localhost -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' 2>/dev/null
  write_conf
  printf alice-secret | saslpasswd2 -p -c -f "$DIR/sasldb2" -u "$(hostname)" alice
  printf 'IMAPS_PORT=%s\nCA_PEM=%s\n' "$IMAPS_PORT" "$DIR/cert.pem" >"$DIR/env"
  chown -R cyrus:mail "$DIR"
  setpriv --reuid=cyrus --regid=mail --init-groups \
    cyrmaster -C "$DIR/imapd.conf" -M "$DIR/cyrus.conf" -p "$DIR/run/master.pid" -L "$DIR/master.log" \
    -d </dev/null >"$DIR/start.log" 2>&1
  for _ in $(seq 200); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$IMAPS_PORT") 2>/dev/null; then
      return
    fi
    sleep 0.05
  done
  cat "$DIR/start.log" "$DIR/master.log" >&2
  return 1
}

stop() {
  local pid
  pid=$(cat "$DIR/run/master.pid" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 200); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.05
  done
  echo "Cyrus does not stop" >&2
  return 1
}

"$1"
