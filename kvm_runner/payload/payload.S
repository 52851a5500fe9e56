/* The guest side of the runner: what a vCPU executes for one step of a trace.
 *
 * These bytes are read-only data of the host program, which copies them into a page of the guest. They must run at
 * any address: no relocations, no data. In: rdi = linear address or register value, rsi = value to store (invpcid:
 * address of the descriptor). Out: rax = value loaded. At CPL 0 a stub ends with OUT to PORT_DONE; each exception
 * vector does OUT to PORT_EXCEPTION + vector. Both are exits to the host, which never lets the guest go on behind
 * them: the next step starts at another stub. The code for CPL 3 is the same, byte for byte, but for the end: INT3,
 * since not every KVM honours IOPL 3 (and at CPL 0 not every KVM can emulate INT3).
 *
 * A third copy is for batches: at CPL 0 once more, but a stub ends with a jump to r13, and the vectors lead back to the
 * interpreter behind it. Stubs leave rbx, rbp and r8 to r15 alone. */

#include "kvm_runner/payload/batch_layout.h"
#include "kvm_runner/payload/ports.h"

    .section .rodata.twinwalk_payload, "a", @progbits
    .code64

    /* The copies; `copy` is the one that is being made. */
    .set kAlone, 0
    .set kUser, 1
    .set kBatched, 2

    /* Names the stub that follows; only those of the first copy are global. */
    .macro BEGIN name
    .balign 16
    .if copy == kAlone
    .globl twinwalk_stub_\name
twinwalk_stub_\name:
    .endif
    .endm

    /* Three bytes in every copy. */
    .macro DONE
    .if copy == kUser
    int3
    hlt
    hlt
    .elseif copy == kBatched
    jmp *%r13
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
    .if copy == kBatched
    push $vector
    jmp twinwalk_batch_exception
    .else
    out %al, $(TWINWALK_PORT_EXCEPTION + vector)
    hlt
    .endif
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
    .set copy, kAlone
    STUBS
    .globl twinwalk_payload_user
twinwalk_payload_user:
    .set copy, kUser
    STUBS
    .globl twinwalk_payload_batched
twinwalk_payload_batched:
    .set copy, kBatched
    STUBS

    /* Does the commands of the context at rdi, one after another, without an exit (batch_layout.h).
     * r15 context, rbx command, rbp result, r14 next word to be read; r13 where a stub goes back to, 0 while none runs. */
    .macro READ_WORDS count
    mov \count(%rbx), %ecx
    jmp 2f
1:  mov (%r14), %rdx
    mov (%rdx), %rdx
    mov %rdx, (%r14)
    add $8, %r14
    dec %ecx
2:  test %ecx, %ecx
    jnz 1b
    .endm

    .balign 16
    .globl twinwalk_batch
twinwalk_batch:
    mov %rdi, %r15
    mov TWINWALK_CONTEXT_STACK(%r15), %rsp
    lidt TWINWALK_CONTEXT_OWN_IDT(%r15)
    mov TWINWALK_CONTEXT_COMMANDS(%r15), %rbx
    mov TWINWALK_CONTEXT_RESULTS(%r15), %rbp
    mov TWINWALK_CONTEXT_WORDS(%r15), %r14
3:  mov TWINWALK_CONTEXT_CURRENT(%r15), %rax
    cmp TWINWALK_CONTEXT_COUNT(%r15), %rax
    jae 6f
    READ_WORDS TWINWALK_COMMAND_BEFORE
    mov TWINWALK_COMMAND_RDI(%rbx), %rdi
    mov TWINWALK_COMMAND_RSI(%rbx), %rsi
    lea 4f(%rip), %r13
    cmpl $0, TWINWALK_COMMAND_CPL(%rbx)
    jne 5f
    push TWINWALK_COMMAND_RFLAGS(%rbx)
    popfq
    jmp *TWINWALK_COMMAND_RIP(%rbx)
5:  push $TWINWALK_SELECTOR_USER_SS
    push %rsp
    push TWINWALK_COMMAND_RFLAGS(%rbx)
    push $TWINWALK_SELECTOR_USER_CS
    push TWINWALK_COMMAND_RIP(%rbx)
    iretq
4:  movq $TWINWALK_RESULT_DONE, TWINWALK_RESULT_VECTOR(%rbp)
7:  xor %r13d, %r13d
    mov %rax, TWINWALK_RESULT_RAX(%rbp)
    READ_WORDS TWINWALK_COMMAND_AFTER
    add $TWINWALK_COMMAND_BYTES, %rbx
    add $TWINWALK_RESULT_BYTES, %rbp
    incq TWINWALK_CONTEXT_CURRENT(%r15)
    jmp 3b
6:  lidt TWINWALK_CONTEXT_IDT(%r15)
    out %al, $TWINWALK_PORT_DONE
    hlt

    /* On the stack: the vector, perhaps an error code, and the frame, which ends at the top. An exception outside of a
     * stub goes to the host. CPL 3 ends with INT3. */
twinwalk_batch_exception:
    pop %rdx
    test %r13, %r13
    jz 8f
    mov TWINWALK_CONTEXT_STACK(%r15), %rsp
    cmp $3, %edx
    je 4b
    mov %rdx, TWINWALK_RESULT_VECTOR(%rbp)
    mov TWINWALK_CONTEXT_EXCEPTION_STACK(%r15), %rcx
    mov -48(%rcx), %ecx
    mov %rcx, TWINWALK_RESULT_ERROR_CODE(%rbp)
    mov %cr2, %rcx
    mov %rcx, TWINWALK_RESULT_CR2(%rbp)
    jmp 7b
8:  add $TWINWALK_PORT_EXCEPTION, %edx
    out %al, %dx
    hlt
    .globl twinwalk_payload_end
twinwalk_payload_end:

    .section .note.GNU-stack, "", @progbits
