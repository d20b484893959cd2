// Opens every page of a built site in Chromium and checks it: node website/check/browser.mjs [SITE]
//
// - no console error, no request to another host, no resource that is missing
// - formulas typeset: no raw TeX, no error of KaTeX, some on every function page
// - axe finds no violation, in light and in dark
// - nothing overflows at 390 px
// - internal links and their anchors hold; sitemap and llms.txt have every page
// - titles differ; each page has a card, the version, and links to its sources; a page in two languages
//   has the same headings in both, and each says where the other is
// - search finds what it should, over HTTP and from a folder opened without a server, in its language
// - a page fetches the pictures of its scheme and width, and no others
// - the interactive figures answer to a drag, to keys and to a touch, keep their handles on their lines,
//   let a finger scroll past, and leave a picture to those without JavaScript
// - the first figure of the performance page is seen without scrolling
//
// A site that was built with an address is served under the path of that address, as where it goes.
// CHROMIUM names the browser if it is not found by itself.
import { createReadStream, existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const SITE = resolve(process.argv[2] ?? "site");
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const CHROMIUM = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
  .find((path) => path && existsSync(path));
const TYPES = {
  ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".json": "application/json",
  ".png": "image/png", ".svg": "image/svg+xml", ".txt": "text/plain", ".woff2": "font/woff2",
  ".xml": "application/xml",
};
const FUNCTIONS = ["maxout.html", "softmin.html", "softmax2d.html"];
// What readers look for, and the pages of which one has to be among the first three results.
const SEARCHES = {
  en: {
    "soft minimum": "softmin", "log softmax": "softmax2d", "argmax with gradient": "maxout gradients",
    gradient: "gradients", jacobian: "reference/softmin reference/softmax2d", vjp: "softmin", jvp: "softmin",
    backpropagation: "glossary", "forward mode": "glossary", mask: "numpy", "where=": "numpy", "out=": "numpy",
    strides: "numpy", axis: "numpy reference/softmin", bfloat16: "numpy", "half precision": "softmin softmax2d",
    NaN: "softmin maxout", overflow: "softmin softmax2d glossary", ties: "maxout", temperature: "softmin reference/softmin",
    segmentation: "softmax2d photograph", install: "index", licence: "cite", license: "cite", "how to cite": "cite",
    changelog: "changelog", bug: "contributing", benchmark: "performance", accuracy: "accuracy", numpy: "numpy",
    pytorch: "frameworks reference/torch", "torch.compile": "frameworks", jax: "frameworks", dask: "frameworks",
    cupy: "gpu", CUDA: "gpu reference/cuda", njit: "kernels", docker: "threads warm-up", container: "threads",
    fork: "threads", threads: "threads", cache: "warm-up", "first call": "warm-up", "warm-up": "warm-up",
  },
  zh: {
    温度: "zh/softmin", 雅可比: "zh/softmax2d", 雅可比矩阵: "zh/softmax2d", 反向传播: "zh/glossary", 掩码: "zh/guides/numpy",
    软最小值: "zh/softmin", 余切向量: "zh/softmin", 对数几率: "zh/softmax2d", 次梯度: "zh/maxout", 并列: "zh/maxout", 安装: "zh/index",
    引用: "cite", 许可证: "cite", 线程: "threads", 梯度: "gradients", softmin: "zh/softmin", softmin_vjp: "reference/softmin",
    softmax2d: "zh/softmax2d", dask: "frameworks",
  },
};
// A function's page comes first; and for a name, then or before, its entry of the reference.
const PAGES_FIRST = ["maxout", "softmin", "softmax2d"];
const NAMES = {
  softmin_vjp: "softmin", softmin_jacobian_diag: "softmin", softmax2d_jvp: "softmax2d", maxout_affine: "maxout",
  maxout_affine_with_index: "maxout", maxout_with_index: "maxout", thread_softmax: "cuda", MaxoutLinear: "torch",
};
const PHONE = 390;

const problems = [];
const complain = (where, what) => problems.push(`${where}: ${what}`);

if (!CHROMIUM) {
  console.error("No Chromium was found. Install it (Debian: apt-get install chromium) or set CHROMIUM.");
  process.exit(2);
}
if (!existsSync(join(SITE, "index.html"))) {
  console.error(`There is no site in ${SITE}. Build it: python -m mkdocs build --strict`);
  process.exit(2);
}

function pagesIn(folder, prefix = "") {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = prefix + entry.name;
    if (entry.isDirectory()) return entry.name === "assets" ? [] : pagesIn(join(folder, entry.name), `${path}/`);
    return entry.name.endsWith(".html") ? [path] : [];
  });
}

// The path of the site's address, "" where it has none or is a host of its own.
const address = readFileSync(join(SITE, "index.html"), "utf-8").match(/rel="canonical" href="([^"]+)"/)?.[1];
const BASE = address ? new URL(".", address).pathname.slice(0, -1) : "";
const inSite = (url) => decodeURIComponent(new URL(url).pathname).slice(BASE.length);

const server = createServer((request, response) => {
  const url = `http://x${request.url}`;
  const path = join(SITE, new URL(url).pathname.startsWith(`${BASE}/`) ? inSite(url) : "elsewhere");
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, "index.html") : path;
  if (!file.startsWith(SITE) || !existsSync(file)) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
  createReadStream(file).pipe(response);
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const HOST = `http://127.0.0.1:${server.address().port}${BASE}`;

const browser = await puppeteer.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
  protocolTimeout: 600_000,
});

async function open(address, scheme = "light", width = 1280, prepare = () => {}) {
  const page = await browser.newPage();
  await prepare(page);
  page.setDefaultTimeout(300_000);
  const name = address.replace(HOST, "");
  const phone = width === PHONE;
  await page.setViewport({ width, height: 900, isMobile: phone, hasTouch: phone });
  await page.emulateMediaFeatures([
    { name: "prefers-color-scheme", value: scheme },
    { name: "prefers-reduced-motion", value: "reduce" },
  ]);
  page.on("console", (message) => {
    if (message.type() === "error") complain(name, `console error: ${message.text()}`);
  });
  page.on("pageerror", (error) => complain(name, `error: ${error}`));
  page.on("request", (request) => {
    const url = request.url();
    const picture = url.match(/\/assets\/figures\/(.+?)-(light|dark)\.svg/);
    if (picture && !picture[1].startsWith("card-") && page.isJavaScriptEnabled()) {
      if (picture[2] !== scheme || picture[1].includes("-narrow") !== phone) complain(name, `fetches ${url} in ${scheme}`);
    }
    if (!url.startsWith(HOST) && !/^(data|blob|file|about):/.test(url)) {
      complain(name, `request to another host: ${url}`);
    }
  });
  page.on("requestfailed", (request) => complain(name, `request failed: ${request.url()}`));
  await page.goto(address, { waitUntil: "load" });
  await page.evaluate(() => document.fonts.ready.then(() => true));
  return page;
}

// ---- every page, in both schemes and on a phone ---------------------------------------------------

const pages = pagesIn(SITE);
const anchors = new Map(); // page → ids
const links = []; // [from, to]
const seen = new Map(); // page → what was found on it

for (const path of pages) {
  for (const scheme of ["light", "dark"]) {
    const page = await open(`${HOST}/${path}`, scheme);
    await page.addScriptTag({ path: AXE });
    const violations = await page.evaluate(async () => {
      const result = await axe.run(document, { resultTypes: ["violations"] });
      return result.violations.map(({ id, nodes }) => [id, nodes.length, nodes[0].html.slice(0, 200), nodes[0].failureSummary]);
    });
    for (const [id, count, html, why] of violations) {
      complain(`${path} (${scheme})`, `axe: ${id}, ${count} times, first ${html}\n    ${why.replaceAll("\n", " ")}`);
    }
    if (scheme === "light") {
      const found = await page.evaluate(() => {
        const typeset = document.querySelectorAll(".katex");
        const text = document.querySelector("article").cloneNode(true);
        text.querySelectorAll(".katex, code, pre, script, style").forEach((part) => part.remove());
        return {
          formulas: typeset.length,
          errors: document.querySelectorAll(".katex-error").length,
          raw: text.textContent.match(/\\\(|\\\[|\$\$|\\(?:frac|sum|partial|max|odot|langle)\b|\{\{|\}\}/)?.[0],
          ids: [...document.querySelectorAll("[id], a[name]")].map((part) => part.id || part.name),
          links: [...document.querySelectorAll("a[href]")].map((link) => link.href),
          title: document.title,
          card: document.querySelector("meta[property='og:image']")?.content,
          footer: document.querySelector(".md-copyright").textContent,
          entries: document.querySelectorAll(".doc-heading").length,
          sources: document.querySelectorAll(".source a[href*='/blob/'][href*='.py#L']").length,
          repository: document.querySelector(".md-source")?.href,
          language: document.documentElement.lang,
          headings: [...document.querySelectorAll("article :is(h1, h2, h3, h4)")].map((part) => `${part.tagName} ${part.id}`),
          twins: [...document.querySelectorAll("link[rel~=alternate]")].map((link) => [link.hreflang, link.href]),
        };
      });
      if (found.errors) complain(path, `${found.errors} formulas with errors`);
      if (found.raw) complain(path, `raw TeX or an unfilled place: ${found.raw}`);
      if (FUNCTIONS.includes(path.replace(/^zh\//, "")) && found.formulas < 10) complain(path, `only ${found.formulas} formulas`);
      seen.set(path, found);
      anchors.set(`/${path}`, new Set(found.ids));
      for (const link of found.links) if (new URL(link).host === new URL(HOST).host) links.push([path, link]);
    }
    await page.close();
  }
  const phone = await open(`${HOST}/${path}`, "light", PHONE);
  const wide = await phone.evaluate((width) => {
    const scrolls = (part) => {
      for (let box = part.parentElement; box; box = box.parentElement) {
        if (["auto", "scroll", "hidden"].includes(getComputedStyle(box).overflowX)) return true;
      }
      return false;
    };
    const beyond = [...document.querySelectorAll("article *")].filter(
      (part) => part.getBoundingClientRect().right > width + 1 && !scrolls(part),
    );
    const page = document.scrollingElement.scrollWidth;
    return page > width || beyond.length ? `${page} px; ${beyond[0]?.outerHTML.slice(0, 120)}` : "";
  }, PHONE);
  if (wide) complain(path, `overflows at ${PHONE} px: ${wide}`);
  await phone.close();
}

for (const [from, link] of links) {
  const url = new URL(link);
  const path = inSite(link).replace(/\/$/, "/index.html") || "/index.html";
  if (!url.pathname.startsWith(BASE) || !existsSync(join(SITE, path))) complain(from, `broken link: ${url.pathname}`);
  else if (url.hash && anchors.has(path) && !anchors.get(path).has(decodeURIComponent(url.hash.slice(1)))) {
    complain(from, `no such anchor: ${url.pathname}${url.hash}`);
  }
}

const titles = new Map();
for (const [path, { title }] of seen) {
  if (titles.has(title)) complain(path, `has the title of ${titles.get(title)}, ${title}`);
  titles.set(title, path);
}

const version = readFileSync(join(SITE, "objects.inv"), "latin1").match(/^# Version: (.+)$/m)[1];
if (version === "0.0.0") complain("objects.inv", "has no version");
for (const [path, { card, footer, entries, sources, repository }] of seen) {
  if (path === "404.html") continue;
  if (address && !existsSync(join(SITE, card.slice(new URL(".", address).href.length)))) complain(path, `has no card ${card}`);
  if (!footer.includes(version)) complain(path, `does not say the version ${version}`);
  if (sources !== (repository ? entries : 0)) complain(path, `links ${sources} sources of ${entries}`);
}

for (const [path, { language, headings, twins }] of seen) {
  const other = path.startsWith("zh/") ? path.slice(3) : `zh/${path}`;
  if (language !== (path.startsWith("zh/") ? "zh" : "en")) complain(path, `is said to be in ${language}`);
  const root = address ? new URL(".", address).href : `${HOST}/`;
  const english = path.replace(/^zh\//, "");
  const wanted = seen.has(other) ? [["en", english], ["zh", `zh/${english}`], ["x-default", english]] : [];
  const want = wanted.map(([name, page]) => [name, root + page]);
  if (JSON.stringify(twins) !== JSON.stringify(want)) complain(path, `says of other languages ${JSON.stringify(twins)}`);
  if (seen.has(other) && seen.get(other).headings.join() !== headings.join()) complain(path, `other headings than ${other}`);
}

for (const list of address ? ["sitemap.xml", "llms.txt"] : ["llms.txt"]) {
  const text = readFileSync(join(SITE, list), "utf-8");
  for (const path of pages) {
    const wanted = address ? new URL(path, address).href : `(${path})`;
    if (path !== "404.html" && !text.includes(wanted)) complain(list, `has not ${wanted}`);
  }
}

// ---- search ---------------------------------------------------------------------------------------

// The links of the first results: of each the page and the sections found in it.
async function search(page, query) {
  const ask = (text) => page.$eval(".md-search__input", (input, value) => {
    input.value = value;
    input.dispatchEvent(new KeyboardEvent("keyup"));
  }, text);
  await ask("");
  await page.waitForFunction(() => !document.querySelector(".md-search-result__item"));
  await ask(query);
  await page.waitForSelector(".md-search-result__item", { timeout: 20_000 }).catch(() => {});
  return page.$$eval(".md-search-result__item", (items, root) => items.map((item) =>
    [...item.querySelectorAll("a")].map((link) => link.href.slice(root.length + 1).replace(/\?h=[^#]*/, ""))),
  page.url().replace(/\/(zh\/)?index\.html$/, ""));
}

for (const root of [HOST, pathToFileURL(SITE).href]) {
  for (const [language, queries] of Object.entries(SEARCHES)) {
    const page = await open(`${root}/${language === "zh" ? "zh/" : ""}index.html`);
    await page.click(".md-search__input");
    const wrong = (query, what) => complain(page.url().replace(HOST, ""), `search for "${query}" ${what}`);
    for (const [query, wanted] of Object.entries(queries)) {
      const found = await search(page, query);
      const first = found.slice(0, 3).map(([link]) => link.replace(".html", ""));
      const ends = wanted.split(" ");
      if (!first.some((link) => ends.some((end) => link === end || link === `guides/${end}`))) {
        wrong(query, `does not find ${wanted}, but ${first.join(", ") || "nothing"}`);
      }
      if (language === "en" && found.flat().some((link) => link.startsWith("zh/"))) wrong(query, "finds Chinese pages");
    }
    for (const query of language === "en" ? PAGES_FIRST : []) {
      const [first, second] = await search(page, query);
      if (first?.[0] !== `${query}.html`) wrong(query, `finds ${first?.[0]} first`);
      if (second?.[0] !== `reference/${query}.html`) wrong(query, `finds ${second?.[0]} second`);
    }
    for (const [query, file] of Object.entries(language === "en" ? NAMES : {})) {
      const [first] = await search(page, query);
      const path = `reference/${file}.html#numba_acts.`;
      const entry = first?.find((link) => link.includes("#"));
      if (!entry?.startsWith(path) || !entry.endsWith(`.${query}`)) wrong(query, `finds ${entry} first`);
    }
    await page.close();
  }
}

// ---- interactive figures --------------------------------------------------------------------------

const state = (page) => page.$eval("figure.interactive", (figure) => JSON.stringify(figure.state));

async function changes(page, name, what, action) {
  const before = await state(page);
  await action();
  if ((await state(page)) === before) complain(name, `the interactive figure does not answer to ${what}`);
}

async function drag(page, selector, dx, dy) {
  const element = await page.$(selector);
  await element.scrollIntoView();
  const { x, y } = await element.clickablePoint();
  await page.mouse.move(x, y);
  await page.mouse.down();
  await page.mouse.move(x + dx / 2, y + dy / 2);
  await page.mouse.move(x + dx, y + dy);
  await page.mouse.up();
}

for (const path of FUNCTIONS) {
  for (const [scheme, width] of [["light", 1280], ["dark", 1280], ["dark", PHONE]]) {
    const page = await open(`${HOST}/${path}`, scheme, width);
    const missing = await page.evaluate(async () => {
      const shown = [...document.querySelectorAll("article img")].filter((image) => image.offsetParent);
      for (const image of shown) {
        image.scrollIntoView({ behavior: "instant" });
        await image.decode().catch(() => {});
      }
      return shown.length < 2 ? ["all"] : shown.filter((image) => !image.naturalWidth).map((image) => image.src);
    });
    if (missing.length) complain(`${path} (${scheme}, ${width})`, `shows not its pictures: ${missing}`);
    await page.close();
  }

  const without = await open(`${HOST}/${path}`, "light", 1280, (page) => page.setJavaScriptEnabled(false));
  if (!(await without.$eval("figure.interactive", (figure) =>
    [...figure.querySelectorAll("img")].some((image) => image.offsetHeight > 100 && image.naturalWidth)))) {
    complain(path, "without JavaScript there is no picture in place of the interactive figure");
  }
  await without.close();

  const page = await open(`${HOST}/${path}`);
  const target = path === "softmax2d.html" ? ".cell" : ".handle";
  await changes(page, path, "a drag", () => drag(page, `figure.interactive ${target}`, 40, 40));
  await changes(page, path, "an arrow key", async () => {
    await page.$eval(`figure.interactive ${target}[tabindex="0"]`, (part) => part.focus());
    await page.keyboard.press("ArrowUp");
  });
  if (path === "softmax2d.html") {
    await changes(page, path, "the space bar", () => page.keyboard.press("Space"));
  }
  if (path === "maxout.html") {
    await changes(page, path, "a button", () => page.click("figure.interactive button:last-of-type"));
    const off = await page.$eval("figure.interactive svg", (svg) => {
      const lines = [...svg.querySelectorAll("line")].filter((line) => line.style.stroke.includes("series"));
      const places = lines.flatMap(({ x1, x2, y1, y2 }) => [[x1, y1], [x2, y2]].map((end) => end.map((at) => at.baseVal.value)));
      const handles = [...svg.querySelectorAll(".handle text")].filter((mark) => mark.textContent).map((mark) => {
        const { e, f } = mark.parentNode.transform.baseVal[0].matrix;
        return [e, f];
      });
      const inside = ([x, y]) => x >= 0 && x <= 320 && y >= 20 && y <= 240;
      return handles.length !== places.length || handles.filter((at, i) => !inside(at) || Math.hypot(at[0] - places[i][0], at[1] - places[i][1]) > 0.1).length;
    });
    if (off) complain(path, "handles that are not at the visible ends of their lines");
  } else {
    await changes(page, path, "its temperature", async () => {
      await page.focus("figure.interactive input[type=range]");
      await page.keyboard.press("ArrowLeft");
    });
  }
  await page.close();

  const phone = await open(`${HOST}/${path}`, "light", PHONE);
  await changes(phone, path, "a touch", async () => {
    const element = await phone.$(`figure.interactive ${target}`);
    await element.scrollIntoView();
    const { x, y } = await element.clickablePoint();
    await phone.touchscreen.touchStart(x, y);
    const down = path === "softmax2d.html" ? 0 : 1;  // where it goes down the page is scrolled
    await phone.touchscreen.touchMove(x + 20, y + 20 * down);
    await phone.touchscreen.touchMove(x + 40, y + 40 * down);
    await phone.touchscreen.touchEnd();
  });
  // up over the grid a finger scrolls the page and paints nothing; up on a handle it moves that alone
  const scrolls = path === "softmax2d.html";
  const from = await phone.evaluate(() => scrollY);
  const before = await state(phone);
  const { x, y } = await (await phone.$(`figure.interactive ${target}`)).clickablePoint();
  await phone.touchscreen.touchStart(x, y);
  for (let by = 10; by <= 100; by += 10) await phone.touchscreen.touchMove(x, y - by);
  await phone.touchscreen.touchEnd();
  await new Promise((done) => setTimeout(done, 500));
  if (((await phone.evaluate(() => scrollY)) !== from) !== scrolls) {
    complain(path, `a finger that goes up ${scrolls ? "scrolls not" : "on a handle scrolls"} the page`);
  }
  if (((await state(phone)) === before) !== scrolls) {
    complain(path, `a finger that goes up ${scrolls ? "paints" : "moves no handle"}`);
  }
  await phone.close();
}

const measured = await open(`${HOST}/performance.html`);
await measured.setViewport({ width: 1280, height: 800 });
const bottom = await measured.evaluate(() =>
  [...document.querySelectorAll("article img")].find((image) => image.offsetParent)?.getBoundingClientRect().bottom ?? 0);
if (bottom > 800) complain("performance.html", `the first figure ends at ${bottom} px of 800`);
await measured.close();

await browser.close();
server.close();
if (problems.length) {
  console.error([...new Set(problems)].map((line) => `FAILED ${line}`).join("\n"));
  console.error(`${problems.length} problems on ${pages.length} pages`);
  process.exit(1);
}
console.log(`${pages.length} pages hold in light, in dark and at ${PHONE} px; ${links.length} internal links`);
