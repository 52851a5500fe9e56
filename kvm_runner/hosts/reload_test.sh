#!/usr/bin/env bash
# reload_test.sh PROGRAM LINUX SCRATCH: `conform --reload-module` where there is a module to load anew: the program itself,
# in a machine of QEMU's with SVM and the distribution's kernel (LINUX: vmlinuz and modules/, as prepare.sh leaves them).
# SCRATCH is made anew.
#
# Exit 0: both ways were run, nothing failed, and the module is loaded as it was. 1: not so; the machine's console is printed. 77: something
# that the test needs is not here.
set -euo pipefail

[[ $# == 3 ]] || { echo "usage: reload_test.sh PROGRAM LINUX SCRATCH" >&2; exit 2; }
program=$1 linux=$2 scratch=$3 root=$3/root
for need in qemu-system-x86_64 busybox depmod kmod cpio; do
  command -v "$need" >/dev/null || { echo "$need is not installed"; exit 77; }
done
busybox=$(command -v busybox)
! ldd "$busybox" >/dev/null 2>&1 || { echo "busybox is not the static one (busybox-static)"; exit 77; }

rm -rf "$scratch" && mkdir -p "$root"/{bin,dev,proc,sys,tmp}
# add FILE: at its own path, with the libraries that it is linked to.
add() {
  local file
  for file in "$1" $(ldd "$1" | grep -oE '/[^ ]+'); do
    mkdir -p "$root${file%/*}"
    cp -L "$file" "$root$file"
  done
}
cp "$busybox" "$root/bin/busybox"
add "$(readlink -f "$(command -v kmod)")"
ln -s "$(readlink -f "$(command -v kmod)")" "$root/bin/modprobe"
add "$program"
release=$(modinfo -F vermagic "$linux/modules/kvm.ko" | cut -d ' ' -f 1)
mkdir -p "$root/lib/modules/$release"
cp "$linux"/modules/*.ko "$root/lib/modules/$release/"
depmod -b "$root" "$release" 2>"$scratch/depmod.log"

cat >"$root/init" <<END
#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
modprobe kvm_amd npt=0
echo "before: npt=\$(busybox cat /sys/module/kvm_amd/parameters/npt)"
$program conform --subject kvm --mode 4-level --quick --no-corpus --reload-module --json
echo "exit: \$?"
echo "after: npt=\$(busybox cat /sys/module/kvm_amd/parameters/npt)"
busybox poweroff -f
END
chmod +x "$root/init"
(cd "$root" && find . -print | cpio -o -H newc --quiet -R 0:0) | gzip -1 >"$scratch/initrd"

timeout 240 qemu-system-x86_64 -accel tcg -cpu EPYC,+svm,+npt -m 2G -nodefaults -display none -no-reboot -serial stdio \
  -kernel "$linux/vmlinuz" -initrd "$scratch/initrd" \
  -append "console=ttyS0 quiet panic=-1 mitigations=off" </dev/null | tr -d '\r' >"$scratch/console" || true

ran() { grep -qE "\"host\":\"local:npt=$1\".*\"result\":\"(pass|known)\"" "$scratch/console"; }
stamped() { grep -qE "\"stamp\":\"[^\"]* npt=$2 .*\"host\":\"local:npt=$1\"" "$scratch/console"; }
if ran 1 && ran 0 && stamped 1 Y && stamped 0 N && grep -qx 'before: npt=N' "$scratch/console" &&
  grep -qx 'after: npt=N' "$scratch/console" && grep -qx 'exit: 0' "$scratch/console"; then
  rm -rf "$root"
  exit 0
fi
cat "$scratch/console"
exit 1
