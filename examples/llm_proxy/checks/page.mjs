// The page in a real browser: node page.mjs URL [SCREENSHOT]
// playwright-core is looked for beside the working directory; CHROMIUM says where the browser is.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { chromium } = createRequire(`${process.cwd()}/`)("playwright-core");
const [url, screenshot] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const complaints = [];
const open = async (options) => {
  const page = await browser.newPage(options);
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  await page.goto(url);
  return page;
};
const number = async (page, id) => Number((await page.textContent(id)).replace(/[^0-9.]/g, ""));
// How much of a chart is drawn on.
const ink = (page, chart) => page.evaluate((chart) => {
  const canvas = document.querySelector(`canvas[data-chart=${chart}]`);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let drawn = 0;
  for (let at = 3; at < data.length; at += 4) drawn += data[at] > 0;
  return drawn;
}, chart);

try {
  const page = await open({ viewport: { width: 1200, height: 900 } });
  await page.waitForFunction(() => document.getElementById("status").textContent === "live");
  await page.waitForFunction(() => document.getElementById("in-flight").textContent !== "–");
  assert.equal(await number(page, "#answered"), 0, "nobody has come yet");

  await page.locator("#load").fill("3");
  await page.waitForFunction(() => Number(document.getElementById("answered").textContent) > 0, null, { timeout: 15000 });
  await page.waitForFunction(() => document.querySelectorAll("#reasons li:not(.none)").length > 0, null, { timeout: 15000 });
  await page.waitForTimeout(3000);
  assert.match(await page.textContent("#load-text"), /^3×/);
  assert.match(await page.textContent("#limit-text"), /^of \d+ that may run$/);
  assert.ok((await number(page, "#tokens")) > 0, "tokens are streamed");
  for (const chart of ["flight", "ttft", "tokens", "requests", "engine"]) {
    assert.ok((await ink(page, chart)) > 100, `${chart} is drawn`);
  }
  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });

  // Without the layer nobody is refused, and more are under way.
  const limited = await number(page, "#in-flight");
  await page.locator("label.switch").click();
  await page.waitForFunction(() => document.getElementById("on-text").textContent === "layer off");
  await page.waitForFunction((limited) => Number(document.getElementById("in-flight").textContent) > limited, limited, { timeout: 15000 });
  await page.waitForFunction(() => document.querySelector("#reasons li.none"), null, { timeout: 5000 });
  await page.locator("label.switch").click();
  await page.waitForFunction(() => document.getElementById("on-text").textContent === "layer on");

  // A fault that is set shows.
  await page.locator("summary").click();
  await page.locator("[data-fault=refuse]").fill("1");
  await page.waitForFunction(() => [...document.querySelectorAll("#reasons li")].some((item) => item.textContent.startsWith("upstream")), null, { timeout: 15000 });
  await page.locator("[data-fault=refuse]").fill("0");

  // On a phone, in the dark, nothing is wider than the screen.
  const phone = await open({ viewport: { width: 360, height: 740 }, colorScheme: "dark", isMobile: true });
  await phone.waitForFunction(() => document.getElementById("status").textContent === "live");
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "it fits a phone");
  const ground = await phone.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.ok(ground.match(/\d+/g).slice(0, 3).every((part) => Number(part) < 64), `the ground is dark: ${ground}`);

  assert.deepEqual(complaints, []);
  console.log("ok the page");
} finally {
  await browser.close();
}
