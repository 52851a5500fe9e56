# shellcheck shell=bash disable=SC2154 # what is used and not set here: see below
# Sourced by pull-request: the tree of the revision that a change begins at, built by its own launcher, and what it
# says of a finding. Uses $source, $build, $out and say.
#
# Its whole tree and not its core alone: a change of the reference or of the harness alters verdicts as well.

# use_base REVISION: its tree in $build/base/tree, at once or as it was kept from before. Sets $base_missing to why
# there is none.
use_base() {
  local top=$build/base/tree
  base_tree=$top/$(git -C "$source" rev-parse --show-prefix) base_missing="" base_log=$out/base.log
  base_tree=${base_tree%/}
  mkdir -p "$build/base"
  git -C "$source" worktree prune
  if ! {
    { [[ -e $top/.git ]] && git -C "$top" checkout --force --detach "$1"; } ||
      { rm -rf "$top" && git -C "$source" worktree add --force --detach "$top" "$1"; }
  } >"$base_log" 2>&1; then
    base_missing="its tree cannot be had"
  elif [[ ! -x $base_tree/twinwalk ]]; then
    base_missing="it has no launcher"
  else
    # What was fetched for this tree need not be fetched for that one.
    [[ ! -d $build/unicorn || -d $base_tree/build/unicorn ]] ||
      { mkdir -p "$base_tree/build" && cp -r "$build/unicorn" "$base_tree/build/"; }
    of_base run --help >>"$base_log" 2>&1 || base_missing="it cannot be built (base.log)"
  fi
}

# The base's launcher, which builds beside itself. The compiler cache sees paths as they are below each tree.
of_base() { env -u TWINWALK_BUILD_DIR CCACHE_BASEDIR="$base_tree" CCACHE_NOHASHDIR=1 "$base_tree/twinwalk" "$@"; }

# base_says TRACE LINE CONFIGURATION: prints "unchanged WHY" or "new WHY".
base_says() {
  local class
  class=$(of_line class "$2")
  if [[ -n $base_missing ]]; then
    echo "new the base was not asked: $base_missing"
  elif [[ $(of_line field "$2") == process ]]; then
    base_worker_says "$1" "$class" "$3"
  else
    base_run_says "$1"
  fi
}

# The first divergence in the result lines of FILE, by what makes it the same finding as another (harness/finding.h).
identity_in() {
  local line=$1.first key
  grep -m1 '"verdict":"diverge"' "$1" >"$line" || return 0
  for key in class verb field profile; do
    printf '%s ' "$(of_line "$key" "$line")"
  done
}

# A divergence: both trees replay the trace, and their lines are compared. Not the finding's own line, whose verb is the
# step's: where an operation is several steps, `run` names the operation.
base_run_says() {
  local ours=$out/own-said theirs=$out/base-said code=0 here there
  timeout 120 "$source/twinwalk" run --json "$1" >"$ours" 2>>"$base_log" || :
  timeout 120 env -u TWINWALK_BUILD_DIR "$base_tree/twinwalk" run --json "$1" >"$theirs" 2>>"$base_log" || code=$?
  here=$(identity_in "$ours") there=$(identity_in "$theirs")
  case $code in
    0) echo "new the base agrees" ;;
    1)
      if [[ -n $here && $here == "$there" ]]; then
        echo "unchanged the base shows it"
      else
        echo "new the base shows another: ${there% }"
      fi
      ;;
    2) echo "new the base does not read the trace: $(tail -1 "$base_log")" ;;
    *) echo "new the base ended with code $code" ;;
  esac
}

# A crash: only a worker can show it, which reads the binary form.
base_worker_says() {
  local input=$out/base-input log=$out/base-worker.log worker shown
  if ! of_base fuzz --help >>"$base_log" 2>&1; then
    echo "new the base has no fuzz target (base.log)"
    return
  elif ! of_base encode "$1" -o "$input" 2>>"$base_log"; then
    echo "new the base does not read the trace"
    return
  fi
  for worker in "$base_tree"/build/{asan,release}/bin/shadow_fuzzer; do
    [[ -x $worker ]] || continue
    if TWINWALK_FUZZ_CONFIG=$3 TWINWALK_FUZZ_CANDIDATES="" UBSAN_OPTIONS=halt_on_error=1 \
      timeout -k 5 30 "$worker" -timeout=10 -detect_leaks=0 -artifact_prefix="$out/base-" "$input" >"$log" 2>&1; then
      continue
    fi
    # As the driver tells crashes apart (harness/fuzzing/worker.cc).
    shown="trap"
    grep -qE 'ERROR: (Address|Leak|Memory)Sanitizer|runtime error:' "$log" && shown=sanitizer
    grep -q 'ERROR: libFuzzer: timeout' "$log" && shown=hang
    if [[ $shown == "$2" ]]; then
      echo "unchanged the base shows it"
      return
    fi
  done
  echo "new the base survives it"
}
