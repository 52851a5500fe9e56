/* The guest side of the runner for vCPUs outside IA-32e mode: the stubs of payload.S in 32-bit code, under the same
 * rules. In: edi = linear address or low half of a register value, ebx = its high half; esi = low half of the value to
 * store, edx = its high half (invpcid: esi = address of the descriptor). Out: edx:eax = value loaded.
 *
 * Eight bytes are one access here, too: by an MMX register, and read-modify-write by CMPXCHG8B, which is a store
 * whether it finds what it expects or not. */

#include "kvm_runner/payload/ports.h"

    .section .rodata.twinwalk_payload32, "a", @progbits
    .code32

    .macro BEGIN name
    .balign 16
    .if !user
    .globl twinwalk_stub32_\name
twinwalk_stub32_\name:
    .endif
    .endm

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
    .set vector, 0
    .rept 32
    .balign 8
    out %al, $(TWINWALK_PORT_EXCEPTION + vector)
    hlt
    .set vector, vector + 1
    .endr

BEGIN load8
    movq (%edi), %mm0
    movd %mm0, %eax
    psrlq $32, %mm0
    movd %mm0, %edx
    emms
    DONE
BEGIN load4
    mov (%edi), %eax
    DONE
BEGIN load2
    movzwl (%edi), %eax
    DONE
BEGIN load1
    movzbl (%edi), %eax
    DONE

BEGIN store8
    movd %esi, %mm0
    movd %edx, %mm1
    punpckldq %mm1, %mm0
    movq %mm0, (%edi)
    emms
    DONE
BEGIN store4
    mov %esi, (%edi)
    DONE
BEGIN store2
    mov %si, (%edi)
    DONE
BEGIN store1
    mov %esi, %eax
    mov %al, (%edi)
    DONE

    /* The addend is kept in esi and ebp. The first CMPXCHG8B brings what is there. The second is followed by an instruction
     * that sets the flags: QEMU 7.2's translator keeps CMPXCHG8B's in a word with garbage, VM among it, and the exception
     * at the end would push that. */
BEGIN rmw8
    mov %edx, %ebp
    xor %eax, %eax
    xor %edx, %edx
    xor %ebx, %ebx
    xor %ecx, %ecx
    cmpxchg8b (%edi)
    mov %eax, %ebx
    mov %edx, %ecx
    add %esi, %ebx
    adc %ebp, %ecx
    cmpxchg8b (%edi)
    xor %ecx, %ecx
    DONE
BEGIN rmw4
    mov %esi, %eax
    xadd %eax, (%edi)
    DONE
BEGIN rmw2
    mov %esi, %eax
    xadd %ax, (%edi)
    DONE
BEGIN rmw1
    mov %esi, %eax
    xadd %al, (%edi)
    DONE

BEGIN fetch
    jmp *%edi

BEGIN invlpg
    invlpg (%edi)
    DONE
BEGIN invpcid
    invpcid (%esi), %edi
    DONE
BEGIN write_cr0
    mov %edi, %cr0
    DONE
BEGIN write_cr3
    mov %edi, %cr3
    DONE
BEGIN write_cr4
    mov %edi, %cr4
    DONE
BEGIN write_efer
    mov $0xc0000080, %ecx
    mov %edi, %eax
    mov %ebx, %edx
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
BEGIN flush_all
    mov %cr4, %eax
    mov %eax, %ecx
    xor $0x80, %ecx
    mov %ecx, %cr4
    mov %eax, %cr4
    DONE
BEGIN read_cr0
    mov %cr0, %eax
    DONE
BEGIN read_cr3
    mov %cr3, %eax
    DONE
BEGIN read_cr4
    mov %cr4, %eax
    DONE
BEGIN read_efer
    mov $0xc0000080, %ecx
    rdmsr
    DONE
BEGIN read_pkru
    xor %ecx, %ecx
    rdpkru
    DONE

    /* To CPL 3, as the frame on the stack says. */
BEGIN to_user
    iret

BEGIN nothing
    DONE

BEGIN vmmcall
    vmmcall
    hlt
    .balign 64
    .endm

    .balign 64
    .globl twinwalk_payload32_begin
twinwalk_payload32_begin:
    .set user, 0
    STUBS
    .globl twinwalk_payload32_user
twinwalk_payload32_user:
    .set user, 1
    STUBS
    .globl twinwalk_payload32_end
twinwalk_payload32_end:

    .section .note.GNU-stack, "", @progbits
