#!/usr/bin/env bash
# make_iso.sh IMAGE TRACES OUT.iso: an ISO that boots the image with TRACES as its module, from BIOS and, where GRUB's
# files for it are installed (grub-efi-amd64-bin, mtools), from UEFI. TRACES: lines `TW1 trace N ...`.
set -euo pipefail

[[ $# -eq 3 && -s $1 && -e $2 ]] || {
  echo "usage: make_iso.sh IMAGE TRACES OUT.iso" >&2
  exit 2
}
for program in grub-mkrescue xorriso; do
  command -v "$program" >/dev/null || {
    echo "make_iso.sh: $program is missing (packages grub-pc-bin, grub-common, xorriso)" >&2
    exit 2
  }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree/boot/grub"
cp "$1" "$work/tree/boot/twinwalk-vmx.elf"
cp "$2" "$work/tree/boot/traces"
cat >"$work/tree/boot/grub/grub.cfg" <<'END'
multiboot2 /boot/twinwalk-vmx.elf
module2 /boot/traces traces
boot
END
# Nothing but what these three commands need: emulators read slowly.
grub-mkrescue -o "$work/out.iso" "$work/tree" --locales= --fonts= --themes= \
  --install-modules="multiboot2 normal iso9660 biosdisk part_msdos part_gpt" >"$work/log" 2>&1 || {
  cat "$work/log" >&2
  exit 1
}
mv "$work/out.iso" "$3"
