#!/usr/bin/env bash
# PostgreSQL on a free loopback port, all state in DIR.
#
#   postgres.sh start DIR     writes DIR/env: URL; again after stop
#   postgres.sh stop DIR
set -euo pipefail

DIR=$2
BIN=$(ls -d /usr/lib/postgresql/*/bin | tail -1)

# It refuses to run as root.
as_postgres() {
  if [ "$(id -u)" = 0 ]; then
    setpriv --reuid=postgres --regid=postgres --init-groups "$@"
  else
    "$@"
  fi
}

initialise() {
  local port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  mkdir -p "$DIR/data"
  chmod 700 "$DIR/data"
  [ "$(id -u)" != 0 ] || chown -R postgres: "$DIR"
  echo "$port" >"$DIR/port"
  printf 'URL=postgres://sealpost:secret@127.0.0.1:%s/postgres?sslmode=disable\n' "$port" >"$DIR/env"
  printf secret >"$DIR/password"
  [ "$(id -u)" != 0 ] || chown postgres: "$DIR/password"
  as_postgres "$BIN/initdb" -D "$DIR/data" -U sealpost --auth=scram-sha-256 --pwfile="$DIR/password" -E UTF8 --locale=C --no-sync >"$DIR/initdb.log" 2>&1
}

start() {
  [ -e "$DIR/data/PG_VERSION" ] || initialise
  as_postgres "$BIN/pg_ctl" -D "$DIR/data" -l "$DIR/log" -w -t 60 \
    -o "-p $(cat "$DIR/port") -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200" start >"$DIR/start.log" 2>&1 || {
    cat "$DIR/start.log" "$DIR/log" >&2
    return 1
  }
}

stop() {
  [ ! -e "$DIR/data/postmaster.pid" ] || as_postgres "$BIN/pg_ctl" -D "$DIR/data" -m fast -w stop >"$DIR/stop.log" 2>&1
}

"$1"
