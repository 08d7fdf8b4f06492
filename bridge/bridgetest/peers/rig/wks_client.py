"""wks_client.py ADDRESS INBOUND NEXTHOP: GnuPG's Web Key Service client publishes a new key for ADDRESS at a gateway.

INBOUND is the port of the gateway's listener for mail that comes in (LMTP); at NEXTHOP this program waits for what the gateway
sends on. Prints the fingerprint that was made, then what gpg finds in the directory, as lines with colons.
"""
import os
import smtplib
import socketserver
import subprocess
import sys
import threading
import time

address, inbound, next_hop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
received = []


class Hop(socketserver.StreamRequestHandler):
    """A mail server that takes everything."""

    def handle(self):
        say = lambda line: self.wfile.write(line.encode() + b"\r\n")
        say("220 hop")
        recipients = 0
        while line := self.rfile.readline():
            verb = line.split(b" ")[0].strip().upper()
            if verb in (b"EHLO", b"LHLO"):
                say("250 hop")
            elif verb == b"DATA":
                say("354 go on")
                mail = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    mail += line[1:] if line.startswith(b"..") else line
                received.append(mail)
                for _ in range(recipients):
                    say("250 taken")
            elif verb == b"QUIT":
                say("221 bye")
                return
            else:
                recipients = {b"MAIL": 0, b"RCPT": recipients + 1}.get(verb, recipients)
                say("250 ok")


def run(*command, given=b""):
    done = subprocess.run(command, input=given, capture_output=True)
    if done.returncode != 0:
        sys.exit("%s: %s\n%s" % (" ".join(command), done.stderr.decode(), done.stdout.decode()))
    return done.stdout


def deliver(mail):
    mail = mail.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    with smtplib.LMTP("127.0.0.1", inbound) as server:
        refused = server.sendmail(address, ["key-submission@" + address.split("@")[1]], mail)
    if refused:
        sys.exit("refused: %s" % refused)


socketserver.TCPServer.allow_reuse_address = True
hop = socketserver.ThreadingTCPServer(("127.0.0.1", next_hop), Hop)
threading.Thread(target=hop.serve_forever, daemon=True).start()
for _ in range(200):  # the gateway starts at the same time
    try:
        smtplib.LMTP("127.0.0.1", inbound).close()
        break
    except OSError:
        time.sleep(0.1)

run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", address)
listing = run("gpg", "--batch", "--with-colons", "--list-keys", address).decode()
fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
client = "gpg-wks-client"
if not any(os.access(os.path.join(d, client), os.X_OK) for d in os.environ["PATH"].split(":")):
    client = "/usr/lib/gnupg/gpg-wks-client"
deliver(run(client, "--create", fingerprint, address))
# GnuPG 2.2 reads from the status of a decryption of its own which key it was; where the whole mail was encrypted, as the draft has
# it, it finds none there, says so, answers all the same and exits with 2.
answer = subprocess.run([client, "--receive"], input=received[-1].replace(b"\r\n", b"\n"), capture_output=True)
if not answer.stdout or answer.returncode != 0 and b"decrypted with: (null)" not in answer.stderr:
    sys.exit(answer.stderr.decode())
deliver(answer.stdout)
print(fingerprint)
os.environ["GNUPGHOME"] += "-other"
os.mkdir(os.environ["GNUPGHOME"], 0o700)
print(run("gpg", "--batch", "--with-colons", "--auto-key-locate", "clear,nodefault,wkd", "--locate-keys", address).decode())
run("gpgconf", "--kill", "all")
