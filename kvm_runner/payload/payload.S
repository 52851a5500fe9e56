/* The guest side of the runner: what a vCPU executes for one step of a trace.
 *
 * These bytes are read-only data of the host program, which copies them into a page of the guest. They must run at
 * any address: no relocations, no data. In: rdi = linear address or register value, rsi = value to store (invpcid:
 * address of the descriptor). Out: rax = value loaded. At CPL 0 a stub ends with OUT to PORT_DONE; each exception
 * vector does OUT to PORT_EXCEPTION + vector. Both are exits to the host, which never lets the guest go on behind
 * them: the next step starts at another stub. The code for CPL 3 is the same, byte for byte, but for the end: INT3,
 * since not every KVM honours IOPL 3 (and at CPL 0 not every KVM can emulate INT3). */

#include "kvm_runner/payload/ports.h"

    .section .rodata.twinwalk_payload, "a", @progbits
    .code64

    /* Names the stub that follows; only those of CPL 0 are global. */
    .macro BEGIN name
    .balign 16
    .if !user
    .globl twinwalk_stub_\name
twinwalk_stub_\name:
    .endif
    .endm

    /* Three bytes in either ring. */
    .macro DONE
    .if user
    int3
    hlt
    hlt
    .else
    out %al, $TWINWALK_PORT_DONE
    hlt
    .endif
    .endm

    .macro STUBS
    /* Entry points of the 32 exception vectors, 8 bytes each, from the start of the page. */
    .set vector, 0
    .rept 32
    .balign 8
    out %al, $(TWINWALK_PORT_EXCEPTION + vector)
    hlt
    .set vector, vector + 1
    .endr

BEGIN load8
    mov (%rdi), %rax
    DONE
BEGIN load4
    mov (%rdi), %eax
    DONE
BEGIN load2
    movzwl (%rdi), %eax
    DONE
BEGIN load1
    movzbl (%rdi), %eax
    DONE

BEGIN store8
    mov %rsi, (%rdi)
    DONE
BEGIN store4
    mov %esi, (%rdi)
    DONE
BEGIN store2
    mov %si, (%rdi)
    DONE
BEGIN store1
    mov %sil, (%rdi)
    DONE

    /* Read-modify-write: memory += rsi, rax = what was there. */
BEGIN rmw8
    mov %rsi, %rax
    xadd %rax, (%rdi)
    DONE
BEGIN rmw4
    mov %esi, %eax
    xadd %eax, (%rdi)
    DONE
BEGIN rmw2
    mov %rsi, %rax
    xadd %ax, (%rdi)
    DONE
BEGIN rmw1
    mov %rsi, %rax
    xadd %al, (%rdi)
    DONE

    /* The target is "mov eax, imm32; int3" and comes back as #BP. */
BEGIN fetch
    jmp *%rdi

BEGIN invlpg
    invlpg (%rdi)
    DONE
BEGIN invpcid
    invpcid (%rsi), %rdi
    DONE
BEGIN write_cr0
    mov %rdi, %cr0
    DONE
BEGIN write_cr3
    mov %rdi, %cr3
    DONE
BEGIN write_cr4
    mov %rdi, %cr4
    DONE
BEGIN write_efer
    mov $0xc0000080, %ecx
    mov %rdi, %rax
    mov %rdi, %rdx
    shr $32, %rdx
    wrmsr
    DONE
BEGIN write_pkru
    mov %edi, %eax
    xor %ecx, %ecx
    xor %edx, %edx
    wrpkru
    DONE
BEGIN stac
    stac
    DONE
BEGIN clac
    clac
    DONE

    /* Drops every translation of this vCPU, global ones too. */
BEGIN flush_all
    mov %cr4, %rax
    mov %rax, %rcx
    xor $0x80, %rcx
    mov %rcx, %cr4
    mov %rax, %cr4
    DONE
BEGIN read_cr0
    mov %cr0, %rax
    DONE
BEGIN read_cr3
    mov %cr3, %rax
    DONE
BEGIN read_cr4
    mov %cr4, %rax
    DONE
BEGIN read_efer
    mov $0xc0000080, %ecx
    rdmsr
    shl $32, %rdx
    or %rdx, %rax
    DONE
BEGIN read_pkru
    xor %ecx, %ecx
    rdpkru
    DONE

BEGIN nothing
    DONE

    /* r8 = the VMCB, by its physical address. */
BEGIN vmrun
    mov %r8, %rax
    vmrun
    out %al, $TWINWALK_PORT_LEFT_GUEST
    hlt
BEGIN vmmcall
    vmmcall
    hlt
BEGIN invlpga
    mov %rdi, %rax
    mov %esi, %ecx
    invlpga
    DONE
    .balign 64
    .endm

    .balign 64
    .globl twinwalk_payload_begin
twinwalk_payload_begin:
    .set user, 0
    STUBS
    .globl twinwalk_payload_user
twinwalk_payload_user:
    .set user, 1
    STUBS
    .globl twinwalk_payload_end
twinwalk_payload_end:

    .section .note.GNU-stack, "", @progbits
