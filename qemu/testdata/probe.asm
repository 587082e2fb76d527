# Source of probeCode in ../probe.go. Real-mode code at F000:0000.
#   as -o probe.o probe.asm && ld -Ttext=0 --oformat binary -e 0 -o probe.bin probe.o
.intel_syntax noprefix
.code16
start:
	cli
	lgdtd cs:[gdtr]
	/* page tables: the first 2 MiB, one to one */
	xor ax,ax
	mov ds,ax
	mov dword ptr [0x1000],0x2003
	mov dword ptr [0x2000],0x3003
	mov dword ptr [0x3000],0x83
	/* CR4: PAE, OSFXSR, OSXMMEXCPT */
	mov eax,0x620
	mov cr4,eax
	mov eax,0x1000
	mov cr3,eax
	/* EFER: LME */
	mov ecx,0xc0000080
	rdmsr
	or eax,0x100
	wrmsr
	mov eax,0x80000033
	mov cr0,eax
	/* far jump to 0008:long */
	.byte 0x66,0xea
	.long 0xf0000+long
	.word 8
.code64
long:
	mov eax,0x10
	mov ds,eax
	mov es,eax
	mov ss,eax
	mov esp,0x8000
	fwait
	fninit
	push 0x1f80
	ldmxcsr [rsp]
	pxor xmm0,xmm0
	paddd xmm0,xmm0
	xor eax,eax
	xor edx,edx
	xor ebx,ebx
	xor ecx,ecx
	lock cmpxchg16b [0x5000]
	mov eax,7
	xor ecx,ecx
	cpuid
	bt ebx,8
	jnc nobmi
	shlx eax,eax,eax
nobmi:
	/* IDT at 0x4000, gate 0x20 -> tick */
	mov edi,0x4200
	lea rax,[rip+tick]
	mov word ptr [rdi],ax
	mov word ptr [rdi+2],8
	mov word ptr [rdi+4],0x8e00
	shr eax,16
	mov dword ptr [rdi+6],eax
	lidt [rip+idtr]
	/* PIC: base 0x20, only IRQ0 */
	mov al,0x11
	out 0x20,al
	mov al,0x20
	out 0x21,al
	mov al,4
	out 0x21,al
	mov al,1
	out 0x21,al
	mov al,0xfe
	out 0x21,al
	/* PIT channel 0 mode 2, divisor 4096 = 3.4ms */
	mov al,0x34
	out 0x43,al
	mov al,0
	out 0x40,al
	mov al,0x10
	out 0x40,al
	/* local APIC off: the PIC drives the CPU */
	mov ecx,0x1b
	mov eax,0xfee00100
	xor edx,edx
	wrmsr
	xor ebp,ebp
	sti
wait:
	hlt
	cmp ebp,3
	jb wait
	cli
	mov dx,0x3f8
	mov al,'K'
	out dx,al
	mov dx,0x501
	mov al,0x21
	out dx,al
	hlt
tick:
	inc ebp
	push rax
	mov al,0x20
	out 0x20,al
	pop rax
	iretq
.balign 8
gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr: .word 23
	.long 0xf0000+gdt
idtr: .word 0x20f
	.quad 0x4000
