// Source of codeARM64 in ../code.go: a UEFI application, position independent.
//   aarch64-linux-gnu-as -o guard.o guard_arm64.asm
//   aarch64-linux-gnu-objcopy -O binary -j .text guard.o guard.bin
// It does what guard_amd64.asm does. Offsets into the firmware's tables are
// those of UEFI 2.10, chapters 4, 7, 9.
start:
	stp x29,x30,[sp,#-48]!
	stp x19,x20,[sp,#16]
	str x21,[sp,#32]
	sub sp,sp,#0x420
	mov x19,x0		// our image handle
	mov x20,x1		// system table
	ldr x21,[x20,#0x60]	// boot services
	// the device that we were loaded from, and its path
	adr x1,loadedImage
	mov x2,sp
	ldr x9,[x21,#0x98]	// HandleProtocol
	blr x9
	cbnz x0,leave
	ldr x8,[sp]
	ldr x0,[x8,#0x18]	// DeviceHandle
	adr x1,devicePath
	mov x2,sp
	ldr x9,[x21,#0x98]
	blr x9
	cbnz x0,leave
	// path = device's path up to its end node, then our file
	ldr x1,[sp]
	add x2,sp,#8
	add x3,sp,#0x390	// what lies behind is for the file
node:
	ldrb w4,[x1]
	cmp w4,#0x7f
	b.eq ended
	ldrb w5,[x1,#2]		// a path need not be aligned
	ldrb w4,[x1,#3]
	orr w5,w5,w4,lsl #8
	mov x0,#5		// EFI_BUFFER_TOO_SMALL
	movk x0,#0x8000,lsl #48
	cmp w5,#4
	b.lo leave
	add x4,x2,x5
	cmp x4,x3
	b.hi leave
	bl copy
	b node
ended:
	adr x1,file
	mov w5,#fileEnd-file
	bl copy
	// LoadImage(FALSE, ours, path, NULL, 0, &child)
	mov x0,#0
	mov x1,x19
	add x2,sp,#8
	mov x3,#0
	mov x4,#0
	mov x5,sp
	ldr x9,[x21,#0xc8]
	blr x9
	cbnz x0,leave		// missing or refused: the firmware's turn
	ldr x0,[sp]
	mov x1,#0
	mov x2,#0
	ldr x9,[x21,#0xd0]	// StartImage: comes back only if nothing was booted
	blr x9
	ldr x0,[x20,#0x40]	// console
	cbz x0,quiet
	adr x1,message
	ldr x9,[x0,#8]		// OutputString
	blr x9
quiet:
	ldr w0,microseconds
	ldr x9,[x21,#0xf8]	// Stall
	blr x9
	ldr x8,[x20,#0x58]	// runtime services
	mov x0,#0		// EfiResetCold
	mov x1,#0
	mov x2,#0
	mov x3,#0
	ldr x9,[x8,#0x68]	// ResetSystem
	blr x9
	mov x0,#0x8000000000000007	// EFI_DEVICE_ERROR
leave:
	add sp,sp,#0x420
	ldr x21,[sp,#32]
	ldp x19,x20,[sp,#16]
	ldp x29,x30,[sp],#48
	ret
// copies w5 bytes from x1 to x2 and moves both
copy:
	ldrb w4,[x1],#1
	strb w4,[x2],#1
	subs w5,w5,#1
	b.ne copy
	ret
.balign 4
microseconds:
	.word 3000000
loadedImage:	// 5b1b31a1-9562-11d2-8e3f-00a0c969723b
	.byte 0xa1,0x31,0x1b,0x5b,0x62,0x95,0xd2,0x11,0x8e,0x3f,0x00,0xa0,0xc9,0x69,0x72,0x3b
devicePath:	// 09576e91-6d3f-11d2-8e39-00a0c969723b
	.byte 0x91,0x6e,0x57,0x09,0x3f,0x6d,0xd2,0x11,0x8e,0x39,0x00,0xa0,0xc9,0x69,0x72,0x3b
file:	// media device path, file path
	.byte 4,4
	.hword fileNodeEnd-file
	.string16 "\\EFI\\systemd\\systemd-bootaa64.efi"
fileNodeEnd:
	.byte 0x7f,0xff,4,0
fileEnd:
.balign 4
message:
	.string16 "\r\nwayside: the boot manager started nothing; starting over\r\n"
