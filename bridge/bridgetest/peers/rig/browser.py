"""browser.py PAGE PDF: Firefox shows the file PAGE and prints it to the file PDF. Prints JSON: the text that is seen, whether all of it fits the window's
width, what was loaded besides, and what the console complains about. All over Marionette (the protocol behind geckodriver)."""
import base64
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

page, pdf = sys.argv[1:]


class Marionette:
    """Messages are LENGTH:JSON; the client sends [0, id, command, parameters] and gets [1, id, error, result]."""

    def __init__(self, port):
        for _ in range(600):
            try:
                self.socket = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                time.sleep(0.1)
        else:
            sys.exit("Firefox does not listen")
        self.file = self.socket.makefile("rb")
        self.id = 0
        self.read()

    def read(self):
        length = b""
        while (c := self.file.read(1)) != b":":
            length += c
        return json.loads(self.file.read(int(length)))

    def do(self, command, **parameters):
        self.id += 1
        message = json.dumps([0, self.id, command, parameters]).encode()
        self.socket.sendall(str(len(message)).encode() + b":" + message)
        _, _, error, result = self.read()
        if error:
            sys.exit("%s: %s" % (command, error["message"]))
        return result.get("value") if isinstance(result, dict) and "value" in result else result


with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
with tempfile.TemporaryDirectory() as profile:
    preferences = {"marionette.port": port, "network.proxy.type": 1, "network.proxy.http": "127.0.0.1", "network.proxy.http_port": 9,
                   "network.proxy.ssl": "127.0.0.1", "network.proxy.ssl_port": 9, "app.update.enabled": False, "datareporting.policy.dataSubmissionEnabled": False,
                   "toolkit.telemetry.enabled": False, "browser.shell.checkDefaultBrowser": False, "browser.startup.homepage_override.mstone": "ignore"}
    with open(os.path.join(profile, "user.js"), "w") as f:
        for name, value in preferences.items():
            f.write("user_pref(%s, %s);\n" % (json.dumps(name), json.dumps(value)))
    firefox = subprocess.Popen(["firefox-esr", "--headless", "--marionette", "--no-remote", "--profile", profile],
                               env=dict(os.environ, HOME=profile, MOZ_REMOTE_SETTINGS_DEVTOOLS="1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        m = Marionette(port)
        m.do("WebDriver:NewSession", capabilities={"alwaysMatch": {"acceptInsecureCerts": False}})
        m.do("WebDriver:Navigate", url=pathlib.Path(page).resolve().as_uri())
        seen = m.do("WebDriver:ExecuteScript", args=[], script="""return {
            title: document.title,
            text: document.body.innerText,
            fits: document.documentElement.scrollWidth <= window.innerWidth + 1,
            drawn: [...document.querySelectorAll("svg rect, svg path, svg polygon")].filter(e => e.getBoundingClientRect().width > 0).length,
            loaded: performance.getEntriesByType("resource").map(e => e.name),
            scripts: document.scripts.length,
        }""")
        printed = m.do("WebDriver:Print", background=True)
        with open(pdf, "wb") as f:
            f.write(base64.b64decode(printed))
        print(json.dumps(seen))
        m.do("Marionette:Quit", flags=["eForceQuit"])
        firefox.wait(30)
    finally:
        firefox.kill()
