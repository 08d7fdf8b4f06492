#!/usr/bin/env python3
"""Somebody with Alpine, in a terminal of tmux: lists, sorts, opens, looks into another folder, deletes.

    alpine.py DIR HOST IMAPSPORT USER CA_PEM      the password is in the environment, IMAP_PASSWORD

INBOX holds "Canary encrypted" and "Canary sealed", Clear "Canary clear", each with the text "encrypted canary with
Käse" and so on. "Canary encrypted" is deleted. Every step waits for what the screen must show next.
"""
import os
import pathlib
import subprocess
import sys
import time

folder, host, port, user, ca = sys.argv[1:]
home = pathlib.Path(folder, "home")
home.mkdir()
remote = f"{{{host}:{port}/imap/ssl/user={user}}}"
(home / "pinerc").write_text(
    f"""personal-name=Rig
user-domain=rig.test
inbox-path={remote}INBOX
folder-collections=Mail {remote}[]
feature-list=expunge-without-confirm,quit-without-confirm,no-enable-newmail-short-text
sort-key=arrival
last-version-used=9.99
"""
)
# Alpine trusts what OpenSSL trusts.
environment = {"PATH": os.environ["PATH"], "HOME": str(home), "SSL_CERT_FILE": ca, "TERM": "screen", "LC_ALL": "C.UTF-8"}


def tmux(*args):
    result = subprocess.run(["tmux", "-S", str(home / "tmux"), *args], env=environment, text=True, capture_output=True, timeout=30)
    return result.stdout


def wait(*texts, gone=()):
    """Until the screen shows one of the texts, which it returns, and none of those that must have gone."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        screen = tmux("capture-pane", "-p")
        for text in texts:
            if text in screen and not any(word in screen for word in gone):
                return text
        time.sleep(0.05)
    sys.exit(f"waited in vain for {texts} without {gone}; the screen shows\n{screen}")


def keys(*names):
    tmux("send-keys", *names)


def before(first, second):
    """Until one is shown above the other."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        screen = tmux("capture-pane", "-p")
        if 0 <= screen.find(first) < screen.find(second):
            return
        time.sleep(0.05)
    sys.exit(f"waited in vain for {first} above {second}; the screen shows\n{screen}")


tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40",
     f"exec alpine -i -nowrite_password_cache -p {home}/pinerc 2>{home}/errors")
try:
    wait("ENTER PASSWORD")
    tmux("send-keys", "-l", os.environ["IMAP_PASSWORD"])
    keys("Enter")
    if wait("Preserve password", "Canary sealed") != "Canary sealed":
        keys("n")
    wait("Canary encrypted")
    wait("Canary sealed")
    keys("$", "s")  # by subject, reversed: by the server, if it says SORT
    before("Canary encrypted", "Canary sealed")
    keys("$", "r")
    before("Canary sealed", "Canary encrypted")
    keys("w")
    wait("Word to search")
    tmux("send-keys", "-l", "Canary encrypted")
    keys("Enter")
    wait("Message 2 of 2", gone=("Word to search",))
    keys("Enter")
    wait("encrypted canary with Käse", gone=("BEGIN PGP",))
    keys("<")
    wait("MESSAGE INDEX")
    keys("d")
    wait("D   2 ")
    keys("x")
    wait("Canary sealed", gone=("Canary encrypted",))
    keys("Enter")
    wait("sealed canary with Käse")
    keys("g")
    wait("GOTO folder")
    tmux("send-keys", "-l", "Clear")
    keys("Enter")
    wait("Canary clear")
    keys("q")
    end = time.monotonic() + 30
    while "0" in tmux("list-sessions", "-F", "#{session_name}") and time.monotonic() < end:
        time.sleep(0.05)
finally:
    tmux("kill-server")
print((home / "errors").read_text(), "done", sep="")
