#!/usr/bin/env bash
# bad_input_test.sh TWINWALK: every verb with input that is missing, cut short, random, huge, a folder, unreadable, and
# with an output that is full. Each must end with exit 2, one line on standard error and nothing on standard output.
set -u

twinwalk=$1
work=$(mktemp -d)
trap 'chmod -R u+rwx "$work"; rm -rf "$work"' EXIT
checks=0 bad=0

# refuses WHAT COMMAND...: runs it and looks at exit code, standard error and standard output.
refuses() {
  local what=$1 code lines
  shift
  timeout 60 "$@" >"$work/out" 2>"$work/err" </dev/null
  code=$?
  lines=$(wc -l <"$work/err")
  checks=$((checks + 1))
  if [[ $code != 2 || $lines != 1 || -s $work/out ]]; then
    bad=$((bad + 1))
    echo "$what: ${*:2}"
    echo "  exit $code (wanted 2), $lines lines on standard error (wanted 1), $(wc -c <"$work/out") bytes on standard output (wanted 0)"
    head -c 400 "$work/err"
  fi
}

cat >"$work/good.walk" <<'END'
walk 1
machine core=shadow memory=64M vcpus=1
map gva=0x400000 gpa=0x5000
access read gva=0x400000
END
"$twinwalk" fmt "$work/good.walk" >/dev/null || exit 1
"$twinwalk" encode "$work/good.walk" -o "$work/good.bin" || exit 1
head -c 70 "$work/good.walk" >"$work/cut.walk"
head -c $(($(wc -c <"$work/good.bin") - 3)) "$work/good.bin" >"$work/cut.bin"
head -c 4096 /dev/urandom >"$work/random.walk"
truncate -s 8G "$work/huge.walk"
: >"$work/empty.walk"
mkdir "$work/folder"

# A verb with one file, and what of its output goes to standard output.
for verb in run explain minimise encode decode "fmt --check" fmt; do
  # shellcheck disable=SC2086
  set -- "$twinwalk" $verb
  refuses "missing" "$@" "$work/none.walk"
  refuses "cut short" "$@" "$work/cut.walk"
  refuses "cut short, binary" "$@" "$work/cut.bin"
  refuses "random" "$@" "$work/random.walk"
  refuses "huge" "$@" "$work/huge.walk"
  refuses "empty" "$@" "$work/empty.walk"
  refuses "a folder" "$@" "$work/folder"
  refuses "no input" "$@"
  refuses "no such option" "$@" --frobnicate "$work/good.walk"
done
for file in none.walk random.walk huge.walk folder; do
  refuses "report" "$twinwalk" report "$work/$file" -o "$work/report.html"
done
[[ ! -e $work/report.html ]] || { echo "report wrote its output although its input is bad"; bad=$((bad + 1)); }

# Of several inputs one is bad: nothing of the others is printed.
refuses "second of two" "$twinwalk" run --json "$work/good.walk" "$work/cut.walk"
refuses "second of two" "$twinwalk" fmt "$work/good.walk" "$work/cut.walk"

# Words that are not there, numbers that are none.
refuses "no such verb" "$twinwalk" frobnicate
refuses "no verb" "$twinwalk"
refuses "nothing to mutate" "$twinwalk" mutate
refuses "no such side" "$twinwalk" mutate both
refuses "no such mutant" "$twinwalk" mutate core --only no-such
refuses "a bound out of reach" "$twinwalk" mutate core --bound 101
refuses "mutants in no place" "$twinwalk" mutate core --sample 1 --out "$work/good.walk"
refuses "no such subject" "$twinwalk" run --subject nobody "$work/good.walk"
refuses "no such reference" "$twinwalk" run --reference spec,nobody "$work/good.walk"
refuses "no such host" "$twinwalk" conform --host moon
refuses "no such variant" "$twinwalk" conform --host qemu-svm:npt=2
refuses "no such subject there" "$twinwalk" conform --host qemu-svm --subject core-vmx
refuses "subject of a host" "$twinwalk" run --subject core-vmx "$work/good.walk"
refuses "no module to load" "$twinwalk" conform --subject kvm --host qemu-svm --reload-module
refuses "an image nowhere" "$twinwalk" image -o "$work/none/x.iso" "$work/good.walk"
refuses "no such host to fuzz" "$twinwalk" fuzz --subject kvm --host moon
refuses "nothing to fuzz here" "$twinwalk" fuzz --subject kvm
refuses "core on a host" "$twinwalk" fuzz --host qemu-svm
refuses "configuration of another subject" "$twinwalk" fuzz --subject kvm --host qemu-svm --config ept
refuses "engine of another subject" "$twinwalk" fuzz --subject kvm --host qemu-svm --engine afl
refuses "not a number" "$twinwalk" fuzz --seconds soon
refuses "too few" "$twinwalk" fuzz --jobs 0
refuses "no such configuration" "$twinwalk" fuzz --config none
refuses "no such engine" "$twinwalk" fuzz --engine steam
refuses "fleet and a corpus of one's own" "$twinwalk" fuzz --sync "$work/sync" --corpus "$work/folder"
refuses "a name for nobody" "$twinwalk" fuzz --name left
refuses "a name that is a path" "$twinwalk" fuzz --sync "$work/sync" --name a/b
refuses "no name" "$twinwalk" fuzz --sync "$work/sync" --name ""
refuses "a long name" "$twinwalk" fuzz --sync "$work/sync" --name abcdefghijklmnopqrstuvwxyz01
refuses "a fleet in a file" "$twinwalk" fuzz --sync "$work/good.walk"
refuses "a fleet in a file's folder" "$twinwalk" fuzz --sync "$work/good.walk/sync"
refuses "no fleet" "$twinwalk" fuzz --sync ""
refuses "a fleet in no place" "$twinwalk" fuzz --sync /proc/none
refuses "a fleet of hosts" "$twinwalk" fuzz --subject kvm --host qemu-svm --sync "$work/sync"
[[ ! -e $work/sync ]] || { echo "a refused run made the shared folder"; bad=$((bad + 1)); }
refuses "shard out of range" "$twinwalk" sweep --shard 3/2
refuses "no shard" "$twinwalk" sweep --shard half
refuses "no such mode" "$twinwalk" sweep --mode real
refuses "no such corpus" "$twinwalk" corpus stat "$work/none"
refuses "nothing to merge" "$twinwalk" corpus merge "$work/folder"
refuses "nothing to do with a corpus" "$twinwalk" corpus
refuses "a corpus that is a file" "$twinwalk" corpus minimise "$work/good.walk"
refuses "no finding" "$twinwalk" corpus add "$work/good.walk" --corpus "$work/folder"
refuses "no such finding" "$twinwalk" corpus add "$work/none.walk" --corpus "$work/folder"
refuses "nothing to bisect" "$twinwalk" bisect "$work/none.walk"
refuses "no such revision" "$twinwalk" bisect "$work/good.walk" --bad no-such-revision
refuses "no such good revision" "$twinwalk" bisect "$work/good.walk" --good no-such-revision
refuses "no such configuration" "$twinwalk" run --raw --config no-such "$0"
refuses "a configuration of what is not raw" "$twinwalk" run --config ept "$0"
refuses "no such seed" "$twinwalk" zoo --only no-such-bug

# A file that may not be read. root may read everything, so root tries it as somebody else where it can.
chmod 000 "$work/good.bin"
if [[ $(id -u) != 0 ]]; then
  refuses "unreadable" "$twinwalk" run "$work/good.bin"
elif chmod 711 "$work" && setpriv --reuid=65534 --regid=65534 --clear-groups "$twinwalk" --version >/dev/null 2>&1; then
  refuses "unreadable" setpriv --reuid=65534 --regid=65534 --clear-groups "$twinwalk" run "$work/good.bin"
fi
chmod 644 "$work/good.bin"

# Full outputs: exit 2 and one line, from every verb that prints.
full() {
  checks=$((checks + 1))
  timeout 60 "$@" >/dev/full 2>"$work/err" </dev/null
  local code=$?
  if [[ $code != 2 || $(wc -l <"$work/err") != 1 ]]; then
    bad=$((bad + 1))
    echo "full output: ${*:2}"
    echo "  exit $code (wanted 2), standard error:"
    head -c 400 "$work/err"
  fi
}
full "$twinwalk" run "$work/good.walk"
full "$twinwalk" run --json "$work/good.walk"
full "$twinwalk" explain "$work/good.walk"
full "$twinwalk" decode "$work/good.bin"
full "$twinwalk" encode "$work/good.walk"
full "$twinwalk" doctor
refuses "full output file" "$twinwalk" encode "$work/good.walk" -o /dev/full
refuses "output in no folder" "$twinwalk" encode "$work/good.walk" -o "$work/none/x.bin"

# What was good stays as it was.
"$twinwalk" fmt --check "$work/good.walk" >/dev/null || { echo "good.walk changed"; bad=$((bad + 1)); }

echo "$checks checks, $bad bad"
[[ $bad == 0 ]]
