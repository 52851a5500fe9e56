#!/usr/bin/env bash
# fleet_test.sh PROGRAM SCRATCH: two libFuzzer and two AFL++ workers, of two runs of `fuzz`, on one folder. Each run must
# grow and take over what the other found, and nothing that was in the folder may go.
set -uo pipefail

[[ $# == 2 ]] || { echo "usage: fleet_test.sh PROGRAM SCRATCH" >&2; exit 2; }
program=$1 scratch=$2 sync=$2/sync
least=20 most=150 # seconds

rm -rf "$scratch" && mkdir -p "$scratch" || exit 2
pids=()
trap '((${#pids[@]} == 0)) || kill -INT "${pids[@]}" 2>/dev/null' EXIT
bad=0
wrong() {
  echo "wrong: $*"
  bad=1
}

# run NAME ENGINE: starts a run that goes on until it is interrupted.
run() {
  "$program" fuzz --sync "$sync" --name "$1" --engine "$2" --jobs 2 --seconds 0 --unicorn-share 0 \
    --out "$scratch/$1" >"$scratch/$1.log" 2>&1 &
  pids+=($!)
}
all_inputs() { (cd "$sync" && find . -mindepth 3 -maxdepth 3 -path '*/queue/id:*' | sort); }
inputs_of() { find "$sync/$1/queue" -maxdepth 1 -name 'id:*' -printf '%f\n' 2>/dev/null; }
taken() { find "$1" -maxdepth 1 -type f -name "*,sync:$2*" 2>/dev/null | wc -l; }
alive() { kill -0 "${pids[@]}" 2>/dev/null; }

run left libfuzzer
until [[ $(inputs_of left-libfuzzer | wc -l) -gt 200 || $SECONDS -gt $most ]] || ! alive; do sleep 0.5; done
run right afl
SECONDS=0 before=""
until [[ $SECONDS -ge $most ]] || ! alive; do
  sleep 1
  ((SECONDS % 5 != 0)) || printf '%3d s  left: %5d inputs given, %4d taken over; right: %4d and %4d inputs, %4d taken over from left\n' "$SECONDS" \
    "$(inputs_of left-libfuzzer | wc -l)" "$(taken "$scratch/left/corpus" right-)" \
    "$(inputs_of right-0 | wc -l)" "$(inputs_of right-1 | wc -l)" "$(taken "$sync/right-0/queue" left-libfuzzer)"
  [[ -n $before ]] || ((SECONDS < least / 2)) || {
    before=$(all_inputs)
  }
  if ((SECONDS >= least && $(taken "$scratch/left/corpus" right-) > 0 && $(taken "$sync/right-0/queue" left-libfuzzer) > 0)); then
    break
  fi
done

"$program" fuzz --sync "$sync" --name left --out "$scratch/third" >"$scratch/third.out" 2>"$scratch/third.err"
[[ $? == 2 && $(wc -l <"$scratch/third.err") == 1 && ! -e $scratch/third ]] || wrong "a name that lives was given again"

kill -INT "${pids[@]}"
for pid in "${pids[@]}"; do
  wait "$pid"
  code=$?
  ((code <= 1)) || wrong "a run ended with $code" # 1: it found something, which is told below
done
pids=()

# field RUN PATTERN: a number in the run's summary.
field() { sed -nE "s/.*$2([0-9]+).*/\1/p" "$scratch/$1/summary.json"; }
for name in left right; do
  own=$(field "$name" '"own":')
  ((${own:-0} > 0)) || wrong "$name found nothing"
done
of_right=$(field left '"right-[01]":') of_left=$(field right '"left-libfuzzer":')
((${of_right:-0} > 0)) || wrong "libFuzzer took over nothing from AFL++"
((${of_left:-0} > 0)) || wrong "AFL++ took over nothing from libFuzzer"
gone=$(comm -23 <(echo "$before") <(all_inputs))
[[ -n $before && -z $gone ]] || wrong "inputs are gone from the shared folder:" "$gone"
last=$(inputs_of left-libfuzzer | sort | tail -1)
((10#${last:3:6} + 1 == $(inputs_of left-libfuzzer | wc -l))) || wrong "numbers of left's queue have gaps"

if [[ $bad == 0 ]]; then
  for folder in "$sync/left-libfuzzer/queue" "$sync/right-0/queue" "$sync/right-1/queue" "$sync"; do
    "$program" corpus stat "$folder" >"$scratch/stat" || bad=1
    head -1 "$scratch/stat"
  done
fi
grep -h '^new: ' "$scratch/left.log" "$scratch/right.log"
tail -n 4 "$scratch/left.log" "$scratch/right.log"
exit $bad
