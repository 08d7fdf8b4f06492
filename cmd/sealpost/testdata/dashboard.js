// What a browser's engine makes of the dashboard, for tb.py js LINK OTHER CONTACT. OTHER is a page on another port of
// this machine, which sends a form of its own to the address behind its "?".
const [link, other, contact] = ARGS;
const tab = win().document.getElementById("tabmail").openTab("contentTab", { url: link });
const browser = await until("a tab", () => tab.browser);
const inPage = body => new Promise(resolve => {
  const name = "page:" + Math.random();
  browser.messageManager.addMessageListener(name, m => resolve(m.data));
  browser.messageManager.loadFrameScript("data:application/javascript;charset=utf-8," + encodeURIComponent(
    `sendAsyncMessage(${JSON.stringify(name)}, (() => { const document = content.document; ${body} })());`), false);
});
const at = (what, test) => until(what, async () => test(browser.currentURI.spec) && await inPage("return document.readyState") == "complete");
const go = (url, to) => {
  browser.loadURI(Services.io.newURI(url), { triggeringPrincipal: Services.scriptSecurityManager.getSystemPrincipal() });
  return at(url, spec => spec.startsWith(to ?? url));
};
const text = css => inPage(`return document.querySelector(${JSON.stringify(css)})?.textContent.trim() ?? ""`);
const click = (css, done) => inPage(`document.querySelector(${JSON.stringify(css)}).click()`).then(() => at(css, done));

await at("the overview", spec => spec.includes("/s/"));
const base = browser.currentURI.spec, origin = new URL(base).origin;
const got = { heading: await text("h1") };
got.styled = await inPage("return content.getComputedStyle(document.querySelector('section')).borderTopStyle") == "solid";
got.cookies = await inPage("return document.cookie");

await go(base + "contact?address=" + contact);
got.number = (await text(".number")).replace(/\s/g, "");
await click("button[value=same]", spec => spec.includes("done=verified"));
got.verified = await text(".notice");

await go(other + "?" + base + "contact");
await click("button", spec => spec == base + "contact");
got.foreign = await text("[role=alert]");

await go(base);
await click("footer button", spec => spec == origin + "/");
got.out = await text("h1");
await go(base);
got.after = await text("h1");
return got;
