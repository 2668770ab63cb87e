#!/usr/bin/env bash
# Chromium: DecompressionStream refuses a .gz file of two members, which gzip, Python and Node 24 read.
#
# Versions: Chromium 147 (@sparticuz/chromium 147.0.0, puppeteer-core 24.43.1), Node 24.4.0 and 26.10.0, Python's gzip.
# Behaviour: one gzip file behind another is a gzip file of both (RFC 1952, 2.2: "a series of members").  In Chromium
#   `new DecompressionStream("gzip")` ends with a TypeError after the first member, as its standard asks; so it does in Node
#   26, while the same line of Node 24 gives both, as `gunzipSync` does in every version.
# Output seen: Python "first second"; Node 24.4.0 "first second", gunzipSync "first second"; Node 26.10.0 "TypeError",
#   gunzipSync "first second"; Chromium one member "first ", two members "TypeError".
# Why a good guess is wrong: what a page writes "gzip" for is the format of .gz files, every other reader of them takes all
#   members, and the same line of JavaScript works when it is tried in Node 24.
# Why it matters here: pages that carry their rows inflate them this way.  MNIST's .gz files have one member; what `cat`, bgzip
#   or a log writer made in parts has several and must be packed again before a page can read it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir browser node24 node26
(cd browser && npm init -y >/dev/null && npm install --silent @sparticuz/chromium@147.0.0 puppeteer-core@24.43.1 >/dev/null)
(cd node24 && npm init -y >/dev/null && npm install --silent node@24.4.0 >/dev/null)
(cd node26 && npm init -y >/dev/null && npm install --silent node@26.10.0 >/dev/null)

python3 - <<'PYTHON'
import gzip

with open("one.gz", "wb") as one, open("two.gz", "wb") as two:
    one.write(gzip.compress(b"first "))
    two.write(gzip.compress(b"first ") + gzip.compress(b"second"))
print("Python:", gzip.open("two.gz").read().decode())
assert gzip.open("two.gz").read() == b"first second"
PYTHON

cat >node.mjs <<'JAVASCRIPT'
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const packed = readFileSync("two.gz");
const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const text = await new Response(stream).text().catch((error) => error.name);
console.log(`${text}, gunzipSync ${gunzipSync(packed)}`);
JAVASCRIPT
for version in 24 26; do
  "node$version/node_modules/.bin/node" node.mjs >"$version.txt"
  echo "Node $version: $(cat "$version.txt")"
done
[[ $(cat 24.txt) == "first second, gunzipSync first second" ]]
[[ $(cat 26.txt) == "TypeError, gunzipSync first second" ]]

cat >browser/page.mjs <<'JAVASCRIPT'
import assert from "node:assert";
import { readFileSync } from "node:fs";
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const browser = await puppeteer.launch({
  executablePath: await chromium.executablePath(), args: chromium.args, headless: "shell",
});
const page = await browser.newPage();
const inflated = (name) => page.evaluate(async (bytes) => {
  const stream = new Blob([new Uint8Array(bytes)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const reader = stream.getReader();
  let text = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) text += new TextDecoder().decode(part.value);
  } catch (error) {
    return error.name;
  }
  return text;
}, [...readFileSync(name)]);
const [one, two] = [await inflated("one.gz"), await inflated("two.gz")];
console.log(`${await browser.version()}: one member "${one}", two members "${two}"`);
await browser.close();
assert.equal(one, "first ");
assert.equal(two, "TypeError");
JAVASCRIPT
node26/node_modules/.bin/node browser/page.mjs
