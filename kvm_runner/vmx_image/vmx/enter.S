/* bool twinwalk_vmx_enter(GuestRegisters*, bool launched): runs the guest of the current VMCS until its next exit;
 * false if there was none (VMfail). Whatever the guest does to general registers does not reach the caller. SDM 3C
 * "VM Entries", "VM Exits". */

    .set HOST_RSP, 0x6c14
    .set HOST_RIP, 0x6c16

    .text
    .globl twinwalk_vmx_enter
twinwalk_vmx_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdi
    mov $HOST_RSP, %eax
    vmwrite %rsp, %rax
    mov $HOST_RIP, %eax
    lea exited(%rip), %rcx
    vmwrite %rcx, %rax
    test %sil, %sil
    mov 0(%rdi), %rax
    mov 8(%rdi), %rcx
    mov 16(%rdi), %rdx
    mov 24(%rdi), %rsi
    mov 32(%rdi), %rdi
    jnz 1f
    vmlaunch
    jmp 2f
1:  vmresume
2:  pop %rdi                            /* VMfail */
    xor %eax, %eax
    jmp 3f
exited:
    push %rdi
    mov 8(%rsp), %rdi
    mov %rax, 0(%rdi)
    mov %rcx, 8(%rdi)
    mov %rdx, 16(%rdi)
    mov %rsi, 24(%rdi)
    pop 32(%rdi)
    pop %rdi
    mov $1, %eax
3:  pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .section .note.GNU-stack, "", @progbits
