#!/usr/bin/env bash
# A company's Postfix on loopback ports, all state in DIR: it delivers to the Maildirs of its users.
#
#   mta.sh start DIR     DIR/users, DIR/main.cf.add and DIR/master.cf.add are there; again after stop
#   mta.sh stop DIR
#   mta.sh flush DIR     try everything in the queue now
#   mta.sh refuse DIR ADDRESS   mail to that user fails at delivery, for good
#   mta.sh queue DIR     what is in the queue, as JSON lines
set -euo pipefail

DIR=$2
ETC=$DIR/postfix

configure() {
  local domains
  domains=$(sed 's/.*@//' "$DIR/users" | sort -u | tr '\n' ' ')
  mkdir -p "$DIR"/{log,spool,data,postfix,mail}
  chown postfix "$DIR/data" && chmod 700 "$DIR/data"
  chown mail:mail "$DIR/mail"
  while read -r user; do echo "$user ${user#*@}/${user%@*}/Maildir/"; done <"$DIR/users" >"$ETC/mailboxes"
  cat >"$ETC/main.cf" <<CONF
compatibility_level = 3.6
queue_directory = $DIR/spool
data_directory = $DIR/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = $DIR/log/postfix.log
maillog_file_prefixes = $DIR/log
myhostname = mx.${domains%% *}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = $domains
virtual_mailbox_base = $DIR/mail
virtual_mailbox_maps = texthash:$ETC/mailboxes
virtual_minimum_uid = 1
virtual_uid_maps = static:$(id -u mail)
virtual_gid_maps = static:$(id -g mail)
message_size_limit = 104857600
virtual_mailbox_limit = 0
mailbox_size_limit = 0
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtputf8_enable = yes
in_flow_delay = 0
minimal_backoff_time = 5s
maximal_backoff_time = 10s
queue_run_delay = 5s
biff = no
CONF
  cat "$DIR/main.cf.add" >>"$ETC/main.cf"
  # service type private unpriv chroot wakeup maxproc command
  cat >"$ETC/master.cf.base" <<CONF
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 5 1 qmgr
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
  # A service that is added takes the place of one of the same name.
  { awk 'FNR == NR { if (/^[^ #]/) added[$1 $2] = 1; next } !added[$1 $2]' "$DIR/master.cf.add" "$ETC/master.cf.base"
    cat "$DIR/master.cf.add"; } >"$ETC/master.cf"
}

runs() {
  local pid
  [ -s "$DIR/spool/pid/master.pid" ] && read -r pid <"$DIR/spool/pid/master.pid" && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = master ]
}
gone() { ! runs; }
wait_for() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.05
  done
}

start() {
  [ "$(id -u)" = 0 ] || { echo "mta.sh: must run as root" >&2; return 1; }
  configure
  postfix -c "$ETC" start >"$DIR/log/start.log" 2>&1 </dev/null || {
    cat "$DIR/log/start.log" >&2
    return 1
  }
  wait_for 10 runs
}
stop() {
  if runs; then postfix -c "$ETC" stop >/dev/null 2>&1 || true; fi
  wait_for 10 gone
}
refuse() {
  printf '\ntransport_maps = inline:{ {%s = error:5.2.2 mailbox is gone} }, %s\n' "$1" \
    "$(postconf -c "$ETC" -h transport_maps)" >>"$ETC/main.cf"
  postfix -c "$ETC" reload 2>/dev/null
}
flush() { postqueue -c "$ETC" -f; }
queue() { postqueue -c "$ETC" -j; }

"$1" "${3:-}"
