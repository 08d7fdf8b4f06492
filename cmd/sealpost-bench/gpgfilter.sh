#!/bin/sh
# The content filter that the gateway is compared with: it starts gpg for every message, and as little else as it can.
#
#   gpgfilter.sh GNUPGHOME PORT SENDER RECIPIENT...   the message on stdin; RFC 3156 to 127.0.0.1:PORT
#
# 75 is EX_TEMPFAIL: Postfix tries again.
set -eu
export GNUPGHOME="$1"
port=$2 sender=$3
shift 3
in=$(mktemp "$GNUPGHOME/in.XXXXXX") out=$(mktemp "$GNUPGHOME/out.XXXXXX")
trap 'rm -f "$in" "$out"' EXIT
cat >"$in"
to=
for recipient; do to="$to --recipient $recipient"; done
{
  sed -n '/^$/q; /^[Cc]ontent-\|^[Mm][Ii][Mm][Ee]-[Vv]ersion:/!p' "$in"
  printf 'MIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=bound\n\n'
  printf -- '--bound\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--bound\nContent-Type: application/octet-stream\n\n'
  # shellcheck disable=SC2086
  { printf 'Content-Type: text/plain; charset=us-ascii\n\n'; sed '1,/^$/d' "$in"; } |
    gpg --batch --quiet --no-tty --armor --trust-model always --local-user "$sender" --sign --encrypt $to || exit 75
  printf -- '--bound--\n'
} >"$out"
msmtp --host=127.0.0.1 --port="$port" --from="$sender" -- "$@" <"$out" || exit 75
