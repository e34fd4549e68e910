# Where the kernel enters the program, and the memory functions that the compiler calls.
# Intel syntax; {main} is crate::main.
.globl _start, memcpy, memmove, memset, memcmp, bcmp

_start: # no caller to return to; the stack is aligned already, and stays so whatever the kernel does
    xor ebp, ebp
    and rsp, -16
    call {main}

memmove: # from the end if the destination begins inside the source
    mov rax, rdi
    sub rax, rsi
    cmp rax, rdx
    jae memcpy
    mov rax, rdi
    mov rcx, rdx
    lea rsi, [rsi + rdx - 1]
    lea rdi, [rdi + rdx - 1]
    std
    rep movsb
    cld
    ret

memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret

memset:
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret

memcmp:
bcmp:
    xor eax, eax
2:  test rdx, rdx
    jz 3f
    movzx eax, byte ptr [rdi]
    movzx ecx, byte ptr [rsi]
    inc rdi
    inc rsi
    dec rdx
    sub eax, ecx
    jz 2b
3:  ret
