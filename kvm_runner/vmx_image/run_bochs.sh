#!/usr/bin/env bash
# run_bochs.sh X.iso [MODEL] [MEGABYTES]: boots it in Bochs; its lines come on standard output.
set -euo pipefail

[[ $# -ge 1 && -s $1 ]] || {
  echo "usage: run_bochs.sh X.iso [MODEL] [MEGABYTES]" >&2
  exit 2
}
bochs=$(command -v bochs-bin || command -v bochs) || {
  echo "run_bochs.sh: Bochs is missing (packages bochs, bochsbios, vgabios)" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/rc" <<END
config_interface: textconfig
display_library: rfb, options="timeout=0"
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, e1000=0
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/vgabios/vgabios.bin
megs: ${3:-256}
cpu: model=${2:-tigerlake}, count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=none, time0=1
ata0-master: type=cdrom, path="$1", status=inserted
boot: cdrom
port_e9_hack: enabled=1
log: $work/log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
private_colormap: enabled=0
sound: driver=dummy
END
echo c >"$work/debugger"  # Debian's is a debugger build: it waits for a command
# It always ends with status 1: what it says counts.
"$bochs" -q -f "$work/rc" -rc "$work/debugger" </dev/null 2>"$work/errors" || true
grep -h -E 'panic|PANIC' "$work/log" "$work/errors" >&2 || true
