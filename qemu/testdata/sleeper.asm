# Source of the guest in ../overslept_test.go, for -machine pc.
# Real-mode code at F000:0000.
#   as -o sleeper.o sleeper.asm && ld -Ttext=0 --oformat binary -e 0 -o sleeper.bin sleeper.o
#
# It sets the timer of its local APIC once, for microseconds, takes the
# interrupt, and waits in HLT for others, of which none comes: as a processor
# looks whose timer the emulator has stopped.
.intel_syntax noprefix
.code16
start:
	cli
	mov al,0xff	# nothing from the PIC
	out 0x21,al
	out 0xa1,al
	xor ax,ax
	mov ds,ax
	mov ss,ax
	mov sp,0x7000
	mov word ptr [0xec*4],offset taken
	mov word ptr [0xec*4+2],0xf000
	lgdt cs:[table]
	# the local APIC is above what real mode reaches: a segment of 4 GiB
	mov eax,cr0
	inc ax
	mov cr0,eax
	mov bx,8
	mov ds,bx
	dec ax
	mov cr0,eax
	mov ebx,0xfee00000
	mov dword ptr [ebx+0xf0],0x1ff	# enabled
	mov dword ptr [ebx+0x3e0],3	# by 16
	mov dword ptr [ebx+0x320],0xec	# one-shot, vector 236
	mov dword ptr [ebx+0x380],1000
	sti
sleep:
	hlt
	jmp sleep
taken:
	iret
	.balign 8,0
segments:
	.quad 0
	.quad 0x008f92000000ffff
table:
	.word 15
	.long 0xf0000+segments
