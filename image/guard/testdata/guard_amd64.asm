# Source of codeAMD64 in ../code.go: a UEFI application, position independent.
#   as -o guard.o guard_amd64.asm && objcopy -O binary -j .text guard.o guard.bin
# Offsets into the firmware's tables are those of UEFI 2.10, chapters 4, 7, 9.
.intel_syntax noprefix
.code64
start:
	push rbx
	push rsi
	push rdi
	sub rsp,0x450
	mov rbx,rcx		/* our image handle */
	mov rsi,rdx		/* system table */
	mov rdi,[rsi+0x60]	/* boot services */
	/* the device that we were loaded from, and its path */
	mov rcx,rbx
	lea rdx,[rip+loadedImage]
	lea r8,[rsp+0x40]
	call [rdi+0x98]		/* HandleProtocol */
	test rax,rax
	jnz leave
	mov rax,[rsp+0x40]
	mov rcx,[rax+0x18]	/* DeviceHandle */
	lea rdx,[rip+devicePath]
	lea r8,[rsp+0x40]
	call [rdi+0x98]
	test rax,rax
	jnz leave
	/* path = device's path up to its end node, then our file */
	mov r9,[rsp+0x40]
	lea r10,[rsp+0x48]
	lea r11,[rsp+0x3c0]	/* what lies behind is for the file */
node:
	cmp byte ptr [r9],0x7f
	je ended
	movzx ecx,word ptr [r9+2]
	lea rdx,[r10+rcx]
	mov rax,0x8000000000000005	/* EFI_BUFFER_TOO_SMALL */
	cmp ecx,4
	jb leave
	cmp rdx,r11
	ja leave
	call copy
	jmp node
ended:
	lea r9,[rip+file]
	mov ecx,offset fileEnd-file
	call copy
	/* LoadImage(FALSE, ours, path, NULL, 0, &child) */
	xor ecx,ecx
	mov rdx,rbx
	lea r8,[rsp+0x48]
	xor r9d,r9d
	mov [rsp+0x20],r9
	lea rax,[rsp+0x40]
	mov [rsp+0x28],rax
	call [rdi+0xc8]
	test rax,rax
	jnz leave		/* missing or refused: the firmware's turn */
	mov rcx,[rsp+0x40]
	xor edx,edx
	xor r8d,r8d
	call [rdi+0xd0]		/* StartImage: comes back only if nothing was booted */
	mov rcx,[rsi+0x40]	/* console */
	test rcx,rcx
	jz quiet
	lea rdx,[rip+message]
	call [rcx+8]		/* OutputString */
quiet:
	mov ecx,3000000
	call [rdi+0xf8]		/* Stall, in microseconds */
	mov rax,[rsi+0x58]	/* runtime services */
	xor ecx,ecx		/* EfiResetCold */
	xor edx,edx
	xor r8d,r8d
	xor r9d,r9d
	call [rax+0x68]		/* ResetSystem */
	mov rax,0x8000000000000007	/* EFI_DEVICE_ERROR */
leave:
	add rsp,0x450
	pop rdi
	pop rsi
	pop rbx
	ret
/* copies ecx bytes from r9 to r10 and moves both */
copy:
	mov al,[r9]
	mov [r10],al
	inc r9
	inc r10
	dec ecx
	jnz copy
	ret
.balign 4
loadedImage:	/* 5b1b31a1-9562-11d2-8e3f-00a0c969723b */
	.byte 0xa1,0x31,0x1b,0x5b,0x62,0x95,0xd2,0x11,0x8e,0x3f,0x00,0xa0,0xc9,0x69,0x72,0x3b
devicePath:	/* 09576e91-6d3f-11d2-8e39-00a0c969723b */
	.byte 0x91,0x6e,0x57,0x09,0x3f,0x6d,0xd2,0x11,0x8e,0x39,0x00,0xa0,0xc9,0x69,0x72,0x3b
file:	/* media device path, file path */
	.byte 4,4
	.word fileNodeEnd-file
	.string16 "\\EFI\\systemd\\systemd-bootx64.efi"
fileNodeEnd:
	.byte 0x7f,0xff,4,0
fileEnd:
message:
	.string16 "\r\nwayside: the boot manager started nothing; starting over\r\n"
