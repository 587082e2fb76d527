# Source of biosCode in ../bios.go: what a BIOS starts at 0000:7c00.
#   as -o bios.o bios.asm && objcopy -O binary -j .text bios.o bios.bin
# It says on the screen and on COM1 that the machine has to be switched to
# UEFI, waits for a key and starts over.
.intel_syntax noprefix
.code16
start:
	cli
	xor ax,ax
	mov ds,ax
	mov ss,ax
	mov sp,0x7c00
	sti
	cld
	# COM1, if there is one, to 115200 baud, 8N1: where the kernel's console is
	mov dx,[0x400]		/* its port, in the BIOS's data area */
	test dx,dx
	jz say
	add dx,3
	mov al,0x83		/* line control: 8N1, divisor at the first two ports */
	out dx,al
	sub dx,3
	mov al,1
	out dx,al
	inc dx
	xor al,al
	out dx,al
	inc dx
	inc dx
	mov al,3
	out dx,al
say:
	mov si,0x7c00+(message-start)
next:
	lodsb
	test al,al
	jz told
	push ax
	mov ah,0x0e		/* teletype */
	mov bx,7		/* page 0, light grey */
	int 0x10
	pop ax
	mov ah,1		/* send; gives up by itself where nobody listens */
	xor dx,dx		/* COM1 */
	int 0x14
	jmp next
told:
	xor ah,ah		/* wait for a key */
	int 0x16
	ljmp 0xffff,0		/* start over */
message:
	.ascii "\r\nWayside: this computer started its disk the old way, as a BIOS does.\r\n"
	.ascii "Wayside needs UEFI. In the firmware's setup choose UEFI as boot mode\r\n"
	.ascii "(CSM or Legacy off). A computer without UEFI cannot run this image.\r\n"
	.ascii "Press a key to start over.\r\n"	/* the sector's zeros end it */
