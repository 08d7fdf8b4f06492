#!/usr/bin/env bash
# Runs real mail programs against an IMAP and SMTP server: each sends, reads, changes
# flags and deletes, and what one did is checked with another.
#
#   clients.sh install
#   clients.sh DIR HOST IMAPPORT SMTPPORT USER PASS
#
# The user sends to itself. DIR gets the configurations, local mail and one log a
# check (DIR/log/NAME.log); messages left on the server are removed at the end.
# Prints PASS and FAIL lines and 'N passed, N failed'; exit status 1 when any failed; a
# program that is missing is a failure. Environment:
#   IMAP_TLS, SMTP_TLS  none, starttls (default) or tls (from the first byte)
#   CA_PEM              the CA that signed the server's certificate
#   PEER                send to this address of USER's instead (an alias)
#   ONLY                run only these of: swaks curl mbsync neomutt msmtp
set -uo pipefail

if [ "${1:-}" = install ]; then
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -o DPkg::Lock::Timeout=300 update -q &&
    apt-get -o DPkg::Lock::Timeout=300 install -qy --no-install-recommends curl isync \
      neomutt msmtp swaks libnet-ssleay-perl libauthen-sasl-perl bsdutils python3; } >&2
  exit
fi
if [ $# != 6 ]; then
  sed -n '2,16s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi

mkdir -p "$1/log"
DIR=$(cd "$1" && pwd)
HOST=$2 IMAPPORT=$3 SMTPPORT=$4 LOGIN=$5 PASS=$6
IMAP_TLS=${IMAP_TLS:-starttls} SMTP_TLS=${SMTP_TLS:-starttls}
CA_PEM=${CA_PEM:-/etc/ssl/certs/ca-certificates.crt}
PEER=${PEER:-$LOGIN}
# isync compares names only, never addresses, with the certificate.
NAME=$HOST
[ "$HOST" != 127.0.0.1 ] || NAME=localhost
RUN=rig$$x$(date +%s)
SCRATCH=Rig-$RUN
passed=0 failed=0
export HOME=$DIR/home
rm -rf "$HOME" "$DIR"/{mbsync,neomutt}
mkdir -p "$HOME"

wanted() { [ -z "${ONLY:-}" ] || case " $ONLY " in *" $1 "*) ;; *) false ;; esac }
check() { # NAME FUNCTION...: runs it in a subshell, with its output in a log
  local name=$1 rc
  shift
  (set -x; "$@") >"$DIR/log/$name.log" 2>&1 </dev/null
  rc=$?
  case $rc in
    0) echo "PASS $name" && passed=$((passed + 1)) ;;
    *)
      echo "FAIL $name: $(grep -vE '^\++ ' "$DIR/log/$name.log" | tail -1 | cut -c1-160) (log/$name.log)"
      failed=$((failed + 1))
      ;;
  esac
  return $rc
}
within() { # SECONDS COMMAND...: try until it succeeds
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || { echo "timed out: $*"; return 1; }
    sleep 0.2
  done
}

# curl, which also is the judge of what the others did.

case $IMAP_TLS in tls) IMAP_URL=imaps://$HOST:$IMAPPORT ;; *) IMAP_URL=imap://$HOST:$IMAPPORT ;; esac
case $SMTP_TLS in tls) SMTP_URL=smtps://$HOST:$SMTPPORT ;; *) SMTP_URL=smtp://$HOST:$SMTPPORT ;; esac
printf 'user = "%s:%s"\n' "$LOGIN" "$PASS" >"$DIR/curl.conf"
chmod 600 "$DIR/curl.conf"
imap() { # PATH CURLARGS...
  local path=$1 req=""
  shift
  [ "$IMAP_TLS" = none ] || req=--ssl-reqd
  curl -sS --max-time 30 -K "$DIR/curl.conf" --cacert "$CA_PEM" $req "$IMAP_URL/$path" "$@" | tr -d '\r'
}
uids() { # FOLDER CRITERIA: the UIDs that match, space-separated
  imap "$1" -X "UID SEARCH $2" | sed -n 's/^\* SEARCH *//p'
}
uid_of() { # FOLDER SUBJECT: the one message with that subject
  local found
  found=$(uids "$1" "UNDELETED SUBJECT $2")
  case $found in '' | *' '*) echo "no single $2 in $1: '$found'" >&2; return 1 ;; esac
  echo "$found"
}
arrives() { # SUBJECT [FOLDER]
  within 15 uid_of "${2:-INBOX}" "$1"
}
has_flags() { # FOLDER UID FLAG...
  local folder=$1 line flag
  line=$(imap "$folder" -X "UID FETCH $2 (FLAGS)" | grep FETCH) || return 1
  shift 2
  for flag; do case $line in *"\\$flag"*) ;; *) echo "no $flag in $line"; return 1 ;; esac; done
}
gone() { # FOLDER SUBJECT
  [ -z "$(uids "$1" "UNDELETED SUBJECT $2")" ]
}
message() { # SUBJECT: a message with an attachment
  cat <<MSG
From: $LOGIN
To: $PEER
Subject: $1
Date: $(date -R)
Message-ID: <$1@rig.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=rigpart

--rigpart
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Body of $1, with Käse.
--rigpart
Content-Type: text/csv; name=table.csv
Content-Disposition: attachment; filename=table.csv
Content-Transfer-Encoding: base64

$(printf 'a,b\n%s,2\n' "$1" | base64)
--rigpart--
MSG
}
intact() { # SUBJECT FILE: a stored message has the body and attachment of `message`
  python3 - "$@" <<'PY'
import email, email.policy, sys
m = email.message_from_binary_file(open(sys.argv[2], "rb"), policy=email.policy.default)
assert m["subject"] == sys.argv[1], m["subject"]
text = m.get_body(("plain",)).get_content()
assert text.strip().startswith(f"Body of {sys.argv[1]}, with K\u00e4se."), text
files = {p.get_filename(): p.get_content() for p in m.iter_attachments()}
assert files.get("table.csv", "").split() == ["a,b", f"{sys.argv[1]},2"], files
PY
}

curl_list() {
  imap "" | tee "$DIR/list.txt"
  grep -q INBOX "$DIR/list.txt"
}
curl_send() {
  message "$RUN-curl" >"$DIR/curl.eml"
  local req=--ssl-reqd
  [ "$SMTP_TLS" != none ] || req=""
  curl -sS --max-time 30 -K "$DIR/curl.conf" --cacert "$CA_PEM" $req "$SMTP_URL" --crlf \
    --mail-from "$LOGIN" --mail-rcpt "$PEER" -T "$DIR/curl.eml" && arrives "$RUN-curl"
}
curl_read() {
  local uid
  uid=$(uid_of INBOX "$RUN-curl") || return
  imap "INBOX;UID=$uid" >"$DIR/curl.got" && intact "$RUN-curl" "$DIR/curl.got" || return
  imap "INBOX;UID=$uid;SECTION=TEXT" | grep -q rigpart || return
  imap "INBOX;UID=$uid;SECTION=2" | tr -d '\n' | base64 -d | grep -q "$RUN-curl,2"
}
curl_append() {
  local req=--ssl-reqd
  [ "$IMAP_TLS" != none ] || req=""
  imap "" -X "CREATE $SCRATCH"
  message "$RUN-append" | sed 's/$/\r/' >"$DIR/append.eml"
  curl -sS --max-time 30 -K "$DIR/curl.conf" --cacert "$CA_PEM" $req "$IMAP_URL/$SCRATCH" \
    -T "$DIR/append.eml" || return
  arrives "$RUN-append" "$SCRATCH" >"$DIR/uid" || return
  imap "$SCRATCH;UID=$(cat "$DIR/uid")" >"$DIR/append.got" && intact "$RUN-append" "$DIR/append.got"
}
curl_flags_and_delete() {
  local uid
  uid=$(uid_of INBOX "$RUN-curl") || return
  imap INBOX -X "UID STORE $uid +FLAGS (\\Flagged \\Answered)" || return
  has_flags INBOX "$uid" Flagged Answered || return
  imap INBOX -X "UID STORE $uid +FLAGS.SILENT (\\Deleted)" || return
  imap INBOX -X EXPUNGE && gone INBOX "$RUN-curl"
}

swaks_send() {
  local tls=()
  case $SMTP_TLS in starttls) tls=(--tls) ;; tls) tls=(--tlsc) ;; esac
  [ "$SMTP_TLS" = none ] || tls+=(--tls-verify --tls-ca-path "$CA_PEM")
  message "$RUN-swaks" >"$DIR/swaks.eml"
  swaks --server "$HOST:$SMTPPORT" "${tls[@]}" --auth PLAIN --auth-user "$LOGIN" \
    --auth-password "$PASS" --from "$LOGIN" --to "$PEER" --data "@$DIR/swaks.eml" || return
  arrives "$RUN-swaks" >"$DIR/uid" || return
  imap "INBOX;UID=$(cat "$DIR/uid")" >"$DIR/swaks.got" && intact "$RUN-swaks" "$DIR/swaks.got"
}
swaks_wrong_password() {
  local tls=()
  case $SMTP_TLS in starttls) tls=(--tls) ;; tls) tls=(--tlsc) ;; esac
  swaks --server "$HOST:$SMTPPORT" "${tls[@]}" --auth PLAIN --auth-user "$LOGIN" \
    --auth-password "$PASS-no" --from "$LOGIN" --to "$PEER" --quit-after AUTH
  [ $? = 28 ] # swaks' status for a refused login
}

mbsync_config() {
  local tls
  case $IMAP_TLS in none) tls=None ;; starttls) tls=STARTTLS ;; *) tls=IMAPS ;; esac
  mkdir -p "$DIR/mbsync/state"
  cat >"$DIR/mbsync/rc" <<RC
IMAPStore far
Host $NAME
Port $IMAPPORT
User $LOGIN
Pass "$PASS"
SSLType $tls
CertificateFile $CA_PEM
Timeout 30

MaildirStore near
Path $DIR/mbsync/mail/
Inbox $DIR/mbsync/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX $SCRATCH
Create Near
Expunge Both
SyncState $DIR/mbsync/state/
RC
  mkdir -p "$DIR/mbsync/mail"
}
mbsync_run() { timeout 60 mbsync -c "$DIR/mbsync/rc" -a; }
local_file() { # SUBJECT: the Maildir file with that subject
  grep -rlE "^Subject: $1.?\$" "$DIR/mbsync/mail" | head -1 | grep .
}
mbsync_down() {
  imap "" -X "CREATE $SCRATCH"
  message "$RUN-mbsync" >"$DIR/mbsync.eml"
  curl_smtp "$DIR/mbsync.eml" && arrives "$RUN-mbsync" || return
  mbsync_config
  mbsync_run && intact "$RUN-mbsync" "$(local_file "$RUN-mbsync")"
}
curl_smtp() {
  local req=--ssl-reqd
  [ "$SMTP_TLS" != none ] || req=""
  curl -sS --max-time 30 -K "$DIR/curl.conf" --cacert "$CA_PEM" $req "$SMTP_URL" --crlf \
    --mail-from "$LOGIN" --mail-rcpt "$PEER" -T "$1"
}
mbsync_flags() { # both ways
  local file uid
  uid=$(uid_of INBOX "$RUN-mbsync") || return
  file=$(local_file "$RUN-mbsync") || return
  mv "$file" "$DIR/mbsync/mail/INBOX/cur/$(basename "${file%%:*}"):2,RS" || return
  mbsync_run && has_flags INBOX "$uid" Seen Answered || return
  imap INBOX -X "UID STORE $uid +FLAGS (\\Flagged)" && mbsync_run || return
  case $(local_file "$RUN-mbsync") in *:2,*F*R*S) ;; *) echo "flag did not come down"; return 1 ;; esac
}
mbsync_up() { # a new local message is appended
  message "$RUN-local" >"$DIR/mbsync/mail/$SCRATCH/new/1.$RUN.local"
  mbsync_run && arrives "$RUN-local" "$SCRATCH" >"$DIR/uid" || return
  imap "$SCRATCH;UID=$(cat "$DIR/uid")" >"$DIR/local.got" && intact "$RUN-local" "$DIR/local.got"
}
mbsync_delete() { # both ways
  local file
  file=$(local_file "$RUN-mbsync") || return
  mv "$file" "${file}T" && mbsync_run && gone INBOX "$RUN-mbsync" || return
  imap "$SCRATCH" -X "UID STORE $(uid_of "$SCRATCH" "$RUN-local") +FLAGS.SILENT (\\Deleted)"
  imap "$SCRATCH" -X EXPUNGE
  mbsync_run && ! local_file "$RUN-local"
}
mbsync_settled() { # a further run changes nothing on either side
  local before after
  before=$(uids INBOX ALL; uids "$SCRATCH" ALL; ls "$DIR/mbsync/mail"/*/{cur,new})
  mbsync_run || return
  after=$(uids INBOX ALL; uids "$SCRATCH" ALL; ls "$DIR/mbsync/mail"/*/{cur,new})
  [ "$before" = "$after" ]
}

neomutt_config() {
  local user=${LOGIN//@/%40} imap=imap smtp=smtp force=no
  [ "$IMAP_TLS" != tls ] || imap=imaps
  [ "$SMTP_TLS" != tls ] || smtp=smtps
  [ "$IMAP_TLS" = none ] || [ "$SMTP_TLS" = none ] || force=yes
  mkdir -p "$DIR/neomutt/cache"
  cat >"$DIR/neomutt/rc" <<RC
set from = "$LOGIN"
set realname = "Rig"
set imap_user = "$LOGIN"
set imap_pass = "$PASS"
set smtp_url = "$smtp://$user@$HOST:$SMTPPORT/"
set smtp_pass = "$PASS"
set folder = "$imap://$HOST:$IMAPPORT/"
set spoolfile = "+INBOX"
set record = "+$SCRATCH"
set postponed = "$DIR/neomutt/postponed"
set recall = no
set trash = ""
set header_cache = "$DIR/neomutt/cache"
set message_cachedir = "$DIR/neomutt/cache"
set certificate_file = "$DIR/neomutt/certificates"
set ssl_ca_certificates_file = "$CA_PEM"
set ssl_starttls = yes
set ssl_force_tls = $force
set editor = "cp $DIR/neomutt/body"
set abort_unmodified = no
set delete = yes
set quit = yes
set confirmappend = no
set copy = yes
set wait_key = no
set pipe_decode = no
set mail_check = 1
set timeout = 2
RC
}
neomutt_keys() { # KEYS: runs neomutt on a pseudo-terminal with these key presses
  printf '%s\n' "source $DIR/neomutt/rc" "push \"$1\"" >"$DIR/neomutt/keys"
  TERM=xterm LC_ALL=C.UTF-8 timeout 60 script -qec "neomutt -n -F $DIR/neomutt/keys" /dev/null |
    tail -c 3000 | tr -d '\033'
}
neomutt_send() { # also stores a copy by IMAP
  neomutt_config
  imap "" -X "CREATE $SCRATCH"
  printf 'a,b\n%s,2\n' "$RUN-neomutt" >"$DIR/neomutt/table.csv"
  printf 'Body of %s, with Käse.\n' "$RUN-neomutt" >"$DIR/neomutt/body"
  neomutt_keys "<mail>$PEER<enter>$RUN-neomutt<enter><attach-file>$DIR/neomutt/table.csv<enter><send-message><quit>"
  arrives "$RUN-neomutt" && arrives "$RUN-neomutt" "$SCRATCH"
}
neomutt_read() { # opens it (sets \Seen), pipes out the message, flags it
  local uid
  uid=$(uid_of INBOX "$RUN-neomutt") || return
  local keys="<limit>~s $RUN-neomutt<enter><display-message><exit>"
  keys+="<pipe-message>cat > $DIR/neomutt/got<enter><flag-message><sync-mailbox><quit>"
  neomutt_keys "$keys"
  intact "$RUN-neomutt" "$DIR/neomutt/got" && has_flags INBOX "$uid" Seen Flagged
}
neomutt_move_and_delete() {
  local before
  before=$(uids "$SCRATCH" "SUBJECT $RUN-neomutt" | wc -w)
  neomutt_keys "<limit>~s $RUN-neomutt<enter><save-message>=$SCRATCH<enter><sync-mailbox><quit>"
  gone INBOX "$RUN-neomutt" || { echo "still in INBOX"; return 1; }
  [ "$(uids "$SCRATCH" "SUBJECT $RUN-neomutt" | wc -w)" = $((before + 1)) ] || { echo "not moved"; return 1; }
  neomutt_keys "<change-folder>=$SCRATCH<enter><delete-pattern>~s $RUN-neomutt<enter><sync-mailbox><quit>"
  gone "$SCRATCH" "$RUN-neomutt"
}

msmtp_send() {
  local tls=on starttls=on
  case $SMTP_TLS in none) tls=off ;; tls) starttls=off ;; esac
  cat >"$DIR/msmtprc" <<RC
account default
host $HOST
port $SMTPPORT
auth plain
user $LOGIN
password $PASS
from $LOGIN
tls $tls
tls_starttls $starttls
tls_trust_file $CA_PEM
timeout 30
RC
  chmod 600 "$DIR/msmtprc"
  message "$RUN-msmtp" | msmtp -C "$DIR/msmtprc" -t || return
  arrives "$RUN-msmtp" >"$DIR/uid" || return
  imap "INBOX;UID=$(cat "$DIR/uid")" >"$DIR/msmtp.got" && intact "$RUN-msmtp" "$DIR/msmtp.got"
}

cleanup() { # everything of this run that is still on the server
  local left
  left=$(uids INBOX "SUBJECT $RUN")
  if [ -n "$left" ]; then
    imap INBOX -X "UID STORE ${left// /,} +FLAGS.SILENT (\\Deleted)"
    imap INBOX -X EXPUNGE
  fi
  imap "" -X "DELETE $SCRATCH"
} >"$DIR/log/cleanup.log" 2>&1
trap cleanup EXIT

have() { # COMMAND NAME PACKAGE: else one FAIL line
  wanted "$2" || return 1
  command -v "$1" >/dev/null && return 0
  echo "FAIL $2: $1 is missing; install the Debian package $3" && failed=$((failed + 1)) && return 1
}
command -v curl >/dev/null || { echo "FAIL curl is missing; install the Debian package curl"; exit 1; } # the judge of the others
if have swaks swaks swaks; then
  check swaks-send swaks_send
  check swaks-wrong-password swaks_wrong_password
fi
if wanted curl; then
  check curl-list curl_list
  check curl-send curl_send && check curl-read curl_read
  check curl-append curl_append
  check curl-flags-and-delete curl_flags_and_delete
fi
if have mbsync mbsync isync && check mbsync-down mbsync_down; then
  check mbsync-flags mbsync_flags
  check mbsync-up mbsync_up
  check mbsync-delete mbsync_delete
  check mbsync-settled mbsync_settled
fi
if have neomutt neomutt neomutt && check neomutt-send neomutt_send; then
  check neomutt-read-and-flag neomutt_read
  check neomutt-move-and-delete neomutt_move_and_delete
fi
if have msmtp msmtp msmtp; then check msmtp-send msmtp_send; fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
