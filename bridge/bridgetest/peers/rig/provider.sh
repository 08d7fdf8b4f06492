#!/usr/bin/env bash
# A stand-in mail provider made of real servers: Dovecot (IMAP, LMTP, SASL) and
# Postfix (submission, MX), on loopback ports, with all state under one folder.
#
#   provider.sh install      install the Debian packages, leave no service running
#   provider.sh start DIR    start (again); ports, users and paths go to DIR/env
#   provider.sh stop DIR     stop; DIR keeps its mail, CA and ports for a restart
#   provider.sh status DIR   exit 0 when both servers run
#
# Must run as root (both servers drop privileges). Optional environment:
#   PROVIDER_IP         listen address. At 127.0.0.1 Dovecot takes the client for
#                       local and allows LOGIN without TLS; at 127.0.0.2 it sees
#                       a remote client and says LOGINDISABLED until STARTTLS.
#   PROVIDER_NS_SEP     hierarchy separator (default /)
#   PROVIDER_NS_PREFIX  prefix of the personal namespace (default none)
#   PROVIDER_MESSAGE_SIZE  largest message for submission, in bytes (default 200 MiB)
set -euo pipefail

USERS="alice@alpha.test bob@bravo.test carol@charlie.test load@alpha.test"

die() { echo "provider.sh: $*" >&2; exit 1; }

install_packages() {
  local policy=/usr/sbin/policy-rc.d made=""
  if [ ! -e "$policy" ]; then # keep the packages' own services from starting
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made=1
  fi
  export DEBIAN_FRONTEND=noninteractive
  if ! dpkg -s postfix >/dev/null 2>&1; then
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
  fi
  local rc=0
  { apt-get -o DPkg::Lock::Timeout=300 update -q &&
    apt-get -o DPkg::Lock::Timeout=300 install -qy --no-install-recommends \
      dovecot-imapd dovecot-lmtpd postfix openssl ca-certificates python3; } >&2 || rc=$?
  [ -z "$made" ] || rm -f "$policy"
  return "$rc"
}

free_ports() { # COUNT: below the ephemeral range, so that no client socket takes one
  python3 - "$1" "$IP" <<'PY'
import random, socket, sys
found = []
while len(found) < int(sys.argv[1]):
    port = random.randint(20000, 32000)
    with socket.socket() as s:
        try:
            s.bind((sys.argv[2], port))
        except OSError:
            continue
    if port not in found:
        found.append(port)
print(*found)
PY
}

make_ca() { # DIR/ca.pem + ca.key, and one server certificate for every name here
  [ -s "$DIR/ca.pem" ] && [ -s "$DIR/tls/server.pem" ] && return 0
  mkdir -p "$DIR/tls"
  local san="DNS:localhost,IP:127.0.0.1,IP:127.0.0.2,DNS:provider.test,DNS:*.provider.test"
  local d
  for d in alpha.test bravo.test charlie.test; do san="$san,DNS:$d,DNS:*.$d"; done
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -subj "/CN=Rig test CA" -keyout "$DIR/ca.key" -out "$DIR/ca.pem" \
    -addext "basicConstraints=critical,CA:TRUE" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" \
    -keyout "$DIR/tls/server.key" -out "$DIR/tls/server.csr" 2>/dev/null
  openssl x509 -req -in "$DIR/tls/server.csr" -CA "$DIR/ca.pem" -CAkey "$DIR/ca.key" \
    -set_serial "0x$(openssl rand -hex 8)" -days 397 -out "$DIR/tls/server.pem" \
    -extfile <(printf '%s\n' "subjectAltName=$san" "extendedKeyUsage=serverAuth" \
      "keyUsage=digitalSignature" "basicConstraints=critical,CA:FALSE") 2>/dev/null
  chmod 600 "$DIR/ca.key" "$DIR/tls/server.key"
}

write_env() { # keep the ports of an earlier start
  if [ -s "$DIR/env" ]; then
    # shellcheck disable=SC1091
    . "$DIR/env"
    IP=$PROVIDER_HOST
    return 0
  fi
  # Not in a here-string: a failing command there would go unnoticed.
  local ports
  ports=$(free_ports 5)
  read -r IMAP_PORT IMAPS_PORT SUBMISSION_PORT SUBMISSIONS_PORT SMTP_PORT <<<"$ports"
  {
    echo "PROVIDER_DIR='$DIR'"
    echo "PROVIDER_HOST=$IP"
    echo "IMAP_PORT=$IMAP_PORT               # STARTTLS"
    echo "IMAPS_PORT=$IMAPS_PORT              # implicit TLS"
    echo "SUBMISSION_PORT=$SUBMISSION_PORT         # STARTTLS, SASL"
    echo "SUBMISSIONS_PORT=$SUBMISSIONS_PORT        # implicit TLS, SASL"
    echo "SMTP_PORT=$SMTP_PORT               # MX: no login, local recipients only"
    echo "CA_PEM='$DIR/ca.pem'"
    echo "MAIL_ROOT='$DIR/mail'          # MAIL_ROOT/DOMAIN/USER/Maildir"
    local u n
    for u in $USERS; do
      n=${u%@*}
      echo "${n^^}_USER=$u"
      echo "${n^^}_PASS=$n-secret"
    done
  } >"$DIR/env"
}

write_dovecot() {
  local conf=$DIR/dovecot.conf u n d
  : >"$DIR/users"
  for u in $USERS; do
    n=${u%@*} d=${u#*@}
    echo "$u:{PLAIN}$n-secret:$(id -u mail):$(id -g mail)::$DIR/mail/$d/$n::" >>"$DIR/users"
    install -d -o mail -g mail -m 700 "$DIR/mail/$d" "$DIR/mail/$d/$n"
  done
  chown root:dovecot "$DIR/users" && chmod 640 "$DIR/users"
  cat >"$conf" <<CONF
base_dir = $DIR/run/dovecot
state_dir = $DIR/state
log_path = $DIR/log/dovecot.log
protocols = imap lmtp
listen = $IP
login_greeting = Rig provider ready.

ssl = required
ssl_cert = <$DIR/tls/server.pem
ssl_key = <$DIR/tls/server.key
ssl_min_protocol = TLSv1.2
auth_mechanisms = plain login
auth_username_format = %Lu
# A wrong password answers at once, however often: no delay, no penalty.
auth_failure_delay = 0
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}

passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u $DIR/users
}
userdb {
  driver = passwd-file
  args = username_format=%u $DIR/users
}

first_valid_uid = $(id -u mail)
mail_location = maildir:~/Maildir
# Stored bytes are the bytes that crossed the wire.
mail_save_crlf = yes
mail_max_userip_connections = 200
imap_idle_notify_interval = 29 mins

mail_plugins = quota
protocol imap {
  mail_plugins = quota imap_quota
}
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:storage=4G:messages=1000000
}

namespace inbox {
  inbox = yes
  separator = ${PROVIDER_NS_SEP:-/}
  prefix = ${PROVIDER_NS_PREFIX:-}
  mailbox Drafts {
    auto = subscribe
    special_use = \\Drafts
  }
  mailbox Sent {
    auto = subscribe
    special_use = \\Sent
  }
  mailbox Trash {
    auto = subscribe
    special_use = \\Trash
  }
  mailbox Junk {
    auto = subscribe
    special_use = \\Junk
  }
  mailbox Archive {
    auto = subscribe
    special_use = \\Archive
  }
}

service imap-login {
  service_count = 0
  client_limit = 1000
  inet_listener imap {
    port = $IMAP_PORT
  }
  inet_listener imaps {
    port = $IMAPS_PORT
    ssl = yes
  }
}
service imap {
  process_limit = 500
}
service auth {
  client_limit = 4096
  unix_listener $DIR/run/auth {
    mode = 0600
    user = postfix
  }
}
service lmtp {
  unix_listener $DIR/run/lmtp {
    mode = 0600
    user = postfix
  }
}
protocol lmtp {
  postmaster_address = postmaster@provider.test
}
CONF
}

write_postfix() {
  local etc=$DIR/postfix u d domains=""
  mkdir -p "$etc"
  : >"$etc/recipients"
  for u in $USERS; do
    d=${u#*@}
    case " $domains " in *" $d "*) ;; *) domains="$domains $d" ;; esac
    echo "$u $u" >>"$etc/recipients"
  done
  for d in $domains; do echo "postmaster@$d alice@alpha.test" >>"$etc/aliases"; done
  sort -u -o "$etc/aliases" "$etc/aliases"
  cat >"$etc/main.cf" <<CONF
compatibility_level = 3.6
queue_directory = $DIR/spool
data_directory = $DIR/postfix-data
mail_owner = postfix
setgid_group = postdrop
maillog_file = $DIR/log/postfix.log
maillog_file_prefixes = $DIR/log
myhostname = mx.provider.test
mydestination =
mynetworks =
# What is listened on stands in master.cf; Postfix knows no 127.0.0.2 interface.
inet_interfaces = all
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
virtual_mailbox_domains =$domains
virtual_mailbox_maps = texthash:$etc/recipients
virtual_alias_maps = texthash:$etc/aliases
virtual_transport = lmtp:unix:$DIR/run/lmtp
recipient_delimiter = +
message_size_limit = ${PROVIDER_MESSAGE_SIZE:-209715200}
mailbox_size_limit = 0
# Nothing leaves this machine: no DNS, no outside delivery.
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
default_transport = error:5.1.2 no mail leaves the rig
relay_transport = error:5.1.2 no mail leaves the rig
smtpd_tls_cert_file = $DIR/tls/server.pem
smtpd_tls_key_file = $DIR/tls/server.key
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = $DIR/run/auth
smtpd_sasl_security_options = noanonymous
# As at a real provider: a user sends only as itself.
smtpd_sender_login_maps = texthash:$etc/recipients
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtputf8_enable = yes
biff = no
CONF
  # service type private unpriv chroot wakeup maxproc command
  cat >"$etc/master.cf" <<CONF
$IP:$SMTP_PORT inet n - n - - smtpd
$IP:$SUBMISSION_PORT inet n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
  -o smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch
  -o always_add_missing_headers=yes
$IP:$SUBMISSIONS_PORT inet n - n - - smtpd
  -o syslog_name=postfix/submissions
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
  -o smtpd_sender_restrictions=reject_authenticated_sender_login_mismatch
  -o always_add_missing_headers=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
CONF
}

running() { # PIDFILE NAME: the process in the file is alive and is that program
  local pid
  [ -s "$1" ] && read -r pid <"$1" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]
}
dovecot_runs() { running "$DIR/run/dovecot/master.pid" dovecot; }
postfix_runs() { running "$DIR/spool/pid/master.pid" master; }

wait_for() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}
answers() { # PORT: a greeting line comes
  local line
  { exec 9<>"/dev/tcp/$IP/$1"; } 2>/dev/null || return 1
  read -r -t 2 line <&9 || line=""
  exec 9>&-
  [ -n "$line" ]
}

start() {
  mkdir -p "$DIR"
  DIR=$(cd "$DIR" && pwd)
  IP=${PROVIDER_IP:-127.0.0.1}
  case $IP in 127.*) ;; *) die "PROVIDER_IP must be a loopback address" ;; esac
  [ "$(id -u)" = 0 ] || die "must run as root"
  if ! command -v dovecot || ! command -v postfix; then die "install the Debian packages dovecot-imapd, dovecot-lmtpd and postfix, or run: $0 install"; fi >/dev/null
  [ ${#DIR} -le 60 ] || die "path too long for unix sockets: $DIR"
  dovecot_runs && postfix_runs && return 0
  stop_servers
  # The servers' own users must be able to reach DIR.
  chmod 755 "$DIR"
  mkdir -p "$DIR"/{run/dovecot,state,log,mail,spool,postfix-data}
  chmod 755 "$DIR/mail"
  chown postfix "$DIR/postfix-data" && chmod 700 "$DIR/postfix-data"
  local p=$DIR
  while [ "$p" != / ]; do
    [ $((0$(stat -c %a "$p") & 1)) = 1 ] || die "other users cannot enter $p"
    p=$(dirname "$p")
  done
  make_ca
  write_env
  write_dovecot
  write_postfix
  # The daemons must not keep the caller's output open.
  dovecot -c "$DIR/dovecot.conf" >"$DIR/log/dovecot-start.log" 2>&1 </dev/null ||
    die "dovecot did not start, see $DIR/log/dovecot-start.log"
  postfix -c "$DIR/postfix" start >"$DIR/log/postfix-start.log" 2>&1 </dev/null ||
    die "postfix did not start, see $DIR/log/postfix-start.log"
  wait_for 10 answers "$IMAP_PORT" || die "no IMAP greeting, see $DIR/log/dovecot.log"
  wait_for 10 answers "$SUBMISSION_PORT" || die "no SMTP greeting, see $DIR/log/postfix.log"
}

neither() { ! dovecot_runs && ! postfix_runs; }
stop_servers() {
  if postfix_runs; then postfix -c "$DIR/postfix" stop >/dev/null 2>&1 || true; fi
  if dovecot_runs; then doveadm -c "$DIR/dovecot.conf" stop || true; fi
  wait_for 10 neither || die "still running: $DIR"
}

case "${1:-}" in
  install) install_packages ;;
  start)
    DIR=${2:?start needs DIR}
    start
    ;;
  stop | status)
    if DIR=$(cd "${2:?$1 needs DIR}" 2>/dev/null && pwd); then
      if [ "$1" = stop ]; then stop_servers; else dovecot_runs && postfix_runs; fi
    else
      [ "$1" = stop ]
    fi
    ;;
  *)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
