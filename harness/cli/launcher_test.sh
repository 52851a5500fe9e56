#!/usr/bin/env bash
# launcher_test.sh SOURCE: the launcher, with a build folder whose program is a stand-in that prints its words: what it
# does when there is nothing to do, from any folder, and with what it must refuse. It never builds here.
set -u

launcher=$1/twinwalk
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TWINWALK_BUILD_DIR=$work/build
bad=0

expect() {
  if [[ $2 != "$3" ]]; then
    echo "$1: got '$2', wanted '$3'"
    bad=1
  fi
}

# Without a build: what needs none.
expect "version without a build" "$("$launcher" --version)" "twinwalk $(sed -n 's/^project(twinwalk VERSION \([0-9.]*\).*/\1/p' "$1/CMakeLists.txt")"
"$launcher" --help >"$work/help" || { echo "--help fails without a build"; bad=1; }
grep -q 'verbs:.*fuzz.*test' "$work/help" || { echo "--help names no verbs"; bad=1; }
"$launcher" frobnicate 2>"$work/err"
expect "no such verb: exit" $? 2
expect "no such verb: lines" "$(wc -l <"$work/err")" 1
[[ ! -e $work/build ]] || { echo "a refusal made a build folder"; bad=1; }

# With one: nothing is built, and the words arrive as they were.
mkdir -p "$work/build/release/bin" "$work/elsewhere"
printf '#!/bin/sh\nprintf "[%%s]" "$@"\npwd\n' >"$work/build/release/bin/twinwalk"
chmod +x "$work/build/release/bin/twinwalk"
touch -d '+1 hour' "$work/build/.built-release" "$work/build/.built-fuzz"
expect "words and folder" "$(cd "$work/elsewhere" && "$launcher" run 'a b' --json '')" "[run][a b][--json][]$work/elsewhere"
ln -s "$launcher" "$work/elsewhere/link"
expect "through a link" "$(cd "$work/elsewhere" && ./link doctor)" "[doctor]$work/elsewhere"
expect "a folder from here" "$(cd "$work" && TWINWALK_BUILD_DIR=build "$launcher" doctor)" "[doctor]$work"

# The best of some: other tests run meanwhile.
best=999999
for _ in 1 2 3 4 5 6 7 8; do
  start=$(date +%s%N)
  "$launcher" doctor >/dev/null
  took=$((($(date +%s%N) - start) / 1000))
  ((took < best)) && best=$took
done
echo "adds $best us"
((best < 100000)) || { echo "the launcher takes $best us when there is nothing to do"; bad=1; }
exit $bad
