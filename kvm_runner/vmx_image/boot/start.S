/* From GRUB (multiboot2: 32-bit protected mode, no paging) to C++ in 64-bit mode, with [0, 4 GiB) mapped one to one
 * by 2 MiB pages. Multiboot2 Specification 2.0, "Header layout", "I386 machine state". */

    .set MAGIC, 0xe85250d6
    .set P_W, 0x3
    .set P_W_PS, 0x83
    .set CR0_PE, 1 << 0
    .set CR0_MP, 1 << 1
    .set CR0_NE, 1 << 5
    .set CR0_WP, 1 << 16
    .set CR0_PG, 1 << 31
    .set CR4_PAE, 1 << 5
    .set CR4_OSFXSR, 1 << 9
    .set CR4_OSXMMEXCPT, 1 << 10
    .set EFER, 0xc0000080
    .set EFER_LME, 1 << 8
    .set EFER_NXE, 1 << 11

    .section .multiboot, "a", @progbits
    .balign 8
header:
    .long MAGIC
    .long 0                             /* i386 */
    .long header_end - header
    .long -(MAGIC + (header_end - header))
    .short 1, 0                         /* wants: modules, memory map */
    .long 16
    .long 3, 6
    .short 6, 0                         /* modules begin on pages */
    .long 8
    .short 0, 0
    .long 8
header_end:

    .text
    .code32
    .globl twinwalk_start
twinwalk_start:
    cli
    cld
    mov $boot_stack_top, %esp
    mov %eax, %esi                      /* survive what follows: the magic number, */
    mov %ebx, %edi                      /* and where the information is */

    movl $pdpt + P_W, pml4
    xor %ecx, %ecx
1:  mov %ecx, %eax                      /* four page directories, */
    shl $12, %eax
    add $page_directories + P_W, %eax
    mov %eax, pdpt(, %ecx, 8)
    inc %ecx
    cmp $4, %ecx
    jne 1b
    xor %ecx, %ecx
2:  mov %ecx, %eax                      /* each of 512 pages */
    shl $21, %eax
    or $P_W_PS, %eax
    mov %eax, page_directories(, %ecx, 8)
    inc %ecx
    cmp $2048, %ecx
    jne 2b

    mov $pml4, %eax
    mov %eax, %cr3
    mov $CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT, %eax
    mov %eax, %cr4
    mov $EFER, %ecx
    rdmsr
    or $EFER_LME | EFER_NXE, %eax
    wrmsr
    mov $CR0_PE | CR0_MP | CR0_NE | CR0_WP | CR0_PG, %eax
    mov %eax, %cr0
    lgdt boot_gdtr
    ljmp $8, $3f

    .code64
3:  mov $16, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %esi, %eax                      /* the upper halves are not defined yet */
    mov %edi, %esi
    mov %eax, %edi
    mov $boot_stack_top, %esp
    xor %ebp, %ebp
    call twinwalk_main
    ud2

    .section .rodata
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            /* 64-bit code */
    .quad 0x00cf93000000ffff            /* data */
boot_gdtr:
    .short boot_gdtr - boot_gdt - 1
    .long boot_gdt

    .bss
    .balign 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
page_directories:
    .skip 4 * 4096
    .skip 1 << 20                       /* the stack of context 0 */
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
