// Where the kernel enters the program, and the memory functions that the compiler calls.
// {main} is crate::main.
.globl _start, memcpy, memmove, memset, memcmp, bcmp

_start: // no caller to return to
    mov x29, #0
    mov x30, #0
    bl {main}

memmove: // from the end if the destination begins inside the source
    sub x3, x0, x1
    cmp x3, x2
    b.hs memcpy
2:  cbz x2, 3f
    sub x2, x2, #1
    ldrb w4, [x1, x2]
    strb w4, [x0, x2]
    b 2b
3:  ret

memcpy:
    mov x3, x0
2:  cbz x2, 3f
    ldrb w4, [x1], #1
    strb w4, [x3], #1
    sub x2, x2, #1
    b 2b
3:  ret

memset:
    mov x3, x0
2:  cbz x2, 3f
    strb w1, [x3], #1
    sub x2, x2, #1
    b 2b
3:  ret

memcmp:
bcmp:
2:  cbz x2, 3f
    ldrb w3, [x0], #1
    ldrb w4, [x1], #1
    sub x2, x2, #1
    subs w3, w3, w4
    b.eq 2b
    mov w0, w3
    ret
3:  mov w0, #0
    ret
