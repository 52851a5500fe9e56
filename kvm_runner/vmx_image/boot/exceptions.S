/* Entries of the exception vectors, 16 bytes each: all but NMI go to twinwalk_exception(frame), which does not come
 * back. */

    .text
    .balign 16
    .globl twinwalk_exception_entries
twinwalk_exception_entries:
    .set vector, 0
    .rept 32
    .balign 16
    .if vector == 2
    iretq                               /* an NMI is of no interest, and comes with IST 1 */
    .else
    /* The vectors that push an error code: SDM 3A, "Exception and Interrupt Reference". */
    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21
    push $0
    .endif
    push $vector
    jmp 1f
    .endif
    .set vector, vector + 1
    .endr
1:  mov %rsp, %rdi
    and $-16, %rsp
    cld
    call twinwalk_exception
    ud2

    .section .note.GNU-stack, "", @progbits
