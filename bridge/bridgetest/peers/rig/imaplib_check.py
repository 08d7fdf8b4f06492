#!/usr/bin/env python3
"""Every command of Python's imaplib against an IMAP server, and again by UID.

    imaplib_check.py HOST PORT starttls|tls USER CA_PEM      the password is in the environment, IMAP_PASSWORD

The mailboxes hold: INBOX "Canary encrypted" and "Canary sealed", Clear "Canary clear", each with the text
"encrypted canary with Käse" and so on. Leaves INBOX and Clear with the same messages, and Clear/Kept with one
appended message, for somebody else to look at. The first surprise ends it.
"""
import imaplib
import os
import re
import ssl
import sys

host, port, how, user, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
password = os.environ["IMAP_PASSWORD"]


def connect():
    if how == "tls":
        return imaplib.IMAP4_SSL(host, int(port), ssl_context=context, timeout=60)
    connection = imaplib.IMAP4(host, int(port), timeout=60)
    ok(connection.starttls(context))
    return connection


def ok(answer):
    status, data = answer
    assert status == "OK", answer
    return data


def no(answer):
    assert answer[0] == "NO", answer


def equal(got, want):
    assert got == want, f"got {got!r}, not {want!r}"


def numbers(answer):
    return [int(n) for n in (ok(answer)[0] or b"").split()]


def body(answer):
    """The literal of a FETCH of one message."""
    return next(part[1] for part in ok(answer) if isinstance(part, tuple))


def about(number, answer):
    """What a FETCH or STORE says of one message: others may have changed meanwhile."""
    return next(part for part in ok(answer) if isinstance(part, bytes) and part.startswith(b"%d (" % number))


def refused(login, *args):
    try:
        login(*args)
    except imaplib.IMAP4.error as error:
        assert "AUTHENTICATIONFAILED" in str(error), error
    else:
        raise AssertionError("a wrong password is taken")


m = connect()
refused(m.login, user, password + "no")
if how == "tls":
    ok(m.authenticate("PLAIN", lambda _: b"\0" + user.encode() + b"\0" + password.encode()))
else:
    ok(m.login(user, password))

# mailboxes
capabilities = ok(m.capability())[0].split()
assert b"IMAP4rev1" in capabilities, capabilities
ok(m.noop())
equal(ok(m.namespace()), [b'(("" "/")) NIL NIL'])
listed = b"\n".join(ok(m.list()))
for name in (b"INBOX", b"Clear", b"Sent"):
    assert name in listed, listed
ok(m.create("Clear/Gone"))
ok(m.subscribe("Clear/Gone"))
assert any(b"Clear/Gone" in line for line in ok(m.lsub())), m.lsub()
ok(m.unsubscribe("Clear/Gone"))
no(m.create("Clear/Gone"))
ok(m.rename("Clear/Gone", "Clear/Kept"))
no(m.delete("Clear/Gone"))
no(m.select("Clear/Gone"))
messages = int(re.search(rb"MESSAGES (\d+)", ok(m.status("INBOX", "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"))[0])[1])
equal(messages, 2)

# reading
equal(ok(m.select("INBOX", readonly=True)), [b"2"])
no(m.store("1", "+FLAGS", r"(\Seen)"))
equal(ok(m.select("INBOX")), [b"2"])
encrypted = numbers(m.search(None, 'SUBJECT "Canary encrypted"'))[0]
sealed = numbers(m.search(None, 'SUBJECT "Canary sealed"'))[0]
equal(sorted([encrypted, sealed]), [1, 2])
equal(numbers(m.search(None, "BODY", '"encrypted canary"')), [encrypted])
equal(numbers(m.search(None, "ALL", "NOT", "BODY", '"encrypted canary"')), [sealed])
m.literal = "Käse".encode()
equal(sorted(numbers(m.search("UTF-8", "BODY"))), [1, 2])
m.literal = "Käsekuchen".encode()
equal(numbers(m.search("UTF-8", "TEXT")), [])
uid = int(re.search(rb"UID (\d+)", about(encrypted, m.fetch(str(encrypted), "(UID)")))[1])
equal(numbers(m.uid("SEARCH", None, 'SUBJECT "canary ENCRYPTED"')), [uid])
text = body(m.fetch(str(encrypted), "(BODY.PEEK[])"))
assert b"encrypted canary with K\xc3\xa4se" in text and b"BEGIN PGP" not in text, text
equal(body(m.uid("FETCH", str(uid), "(BODY.PEEK[])")), text)
equal(body(m.fetch(str(encrypted), "(BODY.PEEK[TEXT]<0.9>)")), b"encrypted")
size = int(re.search(rb"RFC822.SIZE (\d+)", about(encrypted, m.fetch(str(encrypted), "(RFC822.SIZE)")))[1])
equal(size, len(text))
assert b"Canary encrypted" in about(encrypted, m.fetch(str(encrypted), "(ENVELOPE)"))
assert b'"text" "plain"' in about(encrypted, m.fetch(str(encrypted), "(BODYSTRUCTURE)")).lower()

# order
for capability, command in ((b"SORT", "sort"), (b"THREAD=REFERENCES", "thread"), (b"THREAD=ORDEREDSUBJECT", "orderedsubject")):
    if capability not in capabilities:
        print(command, "is not offered")
        continue
    if command == "sort":
        equal(numbers(m.sort("(SUBJECT)", "UTF-8", "ALL")), [encrypted, sealed])
        equal(numbers(m.sort("(REVERSE SUBJECT)", "UTF-8", "ALL")), [sealed, encrypted])
        equal(numbers(m.sort("(DATE)", "UTF-8", "ALL")), [sealed, encrypted])
        equal(numbers(m.sort("(ARRIVAL)", "UTF-8", 'SUBJECT "sealed"')), [sealed])
        equal(numbers(m.uid("SORT", "(REVERSE DATE)", "UTF-8", 'BODY "encrypted"')), [uid])
        continue
    for answer in (m.thread(capability.split(b"=")[1].decode(), "UTF-8", "ALL"), m.uid("THREAD", "REFERENCES", "UTF-8", "ALL")):
        threads = re.findall(rb"\(([^()]*)\)", ok(answer)[0])
        equal(len(threads), 2)

# changing
assert rb"\Flagged" in about(sealed, m.store(str(sealed), "+FLAGS", r"(\Flagged)"))
ok(m.uid("STORE", str(uid), "+FLAGS.SILENT", r"(\Answered)"))
assert rb"\Answered" in about(encrypted, m.fetch(str(encrypted), "(FLAGS)"))
ok(m.uid("STORE", str(uid), "-FLAGS", r"(\Answered)"))
ok(m.copy(str(encrypted), "Clear/Kept"))
no(m.copy(str(encrypted), "Missing"))
ok(m.uid("COPY", str(uid), "Clear/Kept"))
message = "From: a@x.test\r\nSubject: Canary appended\r\n\r\nappended canary with Käse\r\n".encode()
ok(m.append("Clear/Kept", r"(\Seen)", '"01-Jan-2024 00:00:00 +0000"', message))
no(m.append("Missing", None, None, message))
equal(ok(m.select("Clear/Kept")), [b"3"])
assert b"01-Jan-2024" in about(3, m.fetch("3", "(INTERNALDATE FLAGS)")).replace(b" 1-Jan", b"01-Jan")
assert body(m.fetch("3", "(BODY.PEEK[])")).endswith(message), m.fetch("3", "(BODY.PEEK[])")
ok(m.check())
ok(m.store("1:2", "+FLAGS.SILENT", r"(\Deleted)"))
assert ok(m.expunge()) in ([b"1", b"1"], [b"2", b"1"])  # from either end
if b"MOVE" in capabilities:
    ok(m.uid("MOVE", "3", "Clear"))
    equal(ok(m.select("Clear")), [b"2"])
    ok(m.uid("MOVE", re.search(rb"UID (\d+)", about(2, m.fetch("2", "(UID)")))[1].decode(), "Clear/Kept"))

# what another connection does comes with IDLE; imaplib has the command from Python 3.14
other = connect()
ok(other.login(user, password))
equal(ok(m.select("Clear/Kept")), [b"1"])
if hasattr(m, "idle"):
    with m.idle(duration=30) as idler:
        ok(other.append("Clear/Kept", None, None, message))
        equal(next(idler)[0], "EXISTS")
else:
    tag = m._new_tag()
    m.send(tag + b" IDLE\r\n")
    assert m.readline().startswith(b"+")
    ok(other.append("Clear/Kept", None, None, message))
    line = m.readline()
    assert line.strip() == b"* 2 EXISTS", line
    m.send(b"DONE\r\n")
    while not (line := m.readline()).startswith(tag):
        pass
    assert b"OK" in line, line
ok(other.select("Clear/Kept"))
ok(other.store("2", "+FLAGS.SILENT", r"(\Deleted)"))
ok(other.close())
ok(m.noop())
equal(numbers(m.search(None, "ALL")), [1])
ok(m.unselect())
equal(other.logout()[0], "BYE")
if b"UTF8=ACCEPT" in capabilities:
    other = connect()
    ok(other.login(user, password))
    ok(other.enable("UTF8=ACCEPT"))
    ok(other.create("Käse"))
    assert any("Käse".encode() in line for line in ok(other.list())), other.list()
    ok(other.delete("Käse"))
    other.logout()
equal(m.logout()[0], "BYE")
print("done")
