#!/bin/sh
# Opens the golden pages in a headless browser: no error on the console, and the filter of a table works.
# Usage: browser_test.sh TESTDATA. Exit 77 (skipped) where there is no browser.
set -u
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || exit 77
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# Prints the document as it is after its scripts ran; console messages go to $work/log.
dom_of() {
  timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync --enable-logging=stderr \
    --user-data-dir="$work/profile" --dump-dom "file://$1" 2>"$work/log"
}

for page in fuzz results; do
  dom_of "$1/$page.html" >"$work/dom" || { echo "the browser failed"; cat "$work/log"; exit 1; }
  grep -q '</html>' "$work/dom" || { echo "$page: no document"; exit 1; }
  if grep -q 'CONSOLE' "$work/log"; then grep 'CONSOLE' "$work/log"; exit 1; fi
done

# What a reader does who types into the first filter.
sed 's|</body>|<script>const box = document.querySelector("input"); box.value = "seed diverge"; box.dispatchEvent(new Event("input"));</script></body>|' \
  "$1/results.html" >"$work/typed.html"
dom_of "$work/typed.html" >"$work/dom"
grep -q '1 of 3 rows' "$work/dom" || { echo "the filter did not filter"; exit 1; }
