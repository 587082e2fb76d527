# Source of the guest in ../guest_test.go, for -machine pc with an IDE disk.
# Real-mode code at F000:0000.
#   as -o guest.o guest.asm && ld -Ttext=0 --oformat binary -e 0 -o guest.bin guest.o
#
# It prints "hello", the first byte of sector 8 ("old X"), writes sectors 8 to
# 15, each filled with its own letter from 'A', flushes after the fourth and
# says so ("flushed"), says "written" after the last, arms the power button
# and prints "ready". On the button it says "bye" and switches itself off.
.intel_syntax noprefix
.code16
start:
	cli
	xor ax,ax
	mov ss,ax
	mov sp,0x7000
	mov ds,ax
	mov es,ax
	mov si,offset hello
	call puts
	# PIIX4 power management, function 0:1.3: I/O at 0x600, enabled
	mov eax,0x80000b40
	mov ebx,0x601
	call pci
	mov eax,0x80000b80
	mov ebx,1
	call pci
	mov eax,0x80000b04
	mov ebx,1
	call pci
	# PM1 enable: power button
	mov dx,0x602
	mov ax,0x100
	out dx,ax
	# read sector 8
	mov bl,8
	mov al,0x20
	call command
	call drq
	mov cx,256
	mov di,0x1000
	mov dx,0x1f0
	cld
	rep insw
	mov si,offset old
	call puts
	mov al,[0x1000]
	call putc
	mov al,10
	call putc
	mov bl,8
sector:
	mov al,0x30
	call command
	call drq
	mov al,bl
	add al,'A'-8
	mov ah,al
	mov cx,256
	mov dx,0x1f0
fill:
	out dx,ax
	loop fill
	call idle
	cmp bl,11
	jne noflush
	mov dx,0x1f7
	mov al,0xe7
	out dx,al
	call idle
	mov si,offset flushed
	call puts
noflush:
	inc bl
	cmp bl,16
	jb sector
	mov si,offset written
	call puts
	mov si,offset ready
	call puts
button:
	mov dx,0x600
	in ax,dx
	test ax,0x100
	jz button
	mov si,offset bye
	call puts
	# PM1 control: sleep, type 0 = soft off
	mov dx,0x604
	mov ax,0x2000
	out dx,ax
stop:
	hlt
	jmp stop

# eax = configuration address, ebx = value
pci:
	mov dx,0xcf8
	out dx,eax
	mov dx,0xcfc
	mov eax,ebx
	out dx,eax
	ret
# al = ATA command for sector bl
command:
	push ax
	call idle
	mov dx,0x1f2
	mov al,1
	out dx,al
	inc dx
	mov al,bl
	out dx,al
	inc dx
	xor al,al
	out dx,al
	inc dx
	out dx,al
	inc dx
	mov al,0xe0
	out dx,al
	inc dx
	pop ax
	out dx,al
	ret
idle:
	mov dx,0x1f7
	in al,dx
	test al,0x80
	jnz idle
	ret
drq:
	mov dx,0x1f7
	in al,dx
	test al,8
	jz drq
	ret
# cs:si = text, NUL at the end
puts:
	mov al,cs:[si]
	inc si
	test al,al
	jz done
	call putc
	jmp puts
done:
	ret
putc:
	push ax
full:
	mov dx,0x3fd
	in al,dx
	test al,0x20
	jz full
	pop ax
	mov dx,0x3f8
	out dx,al
	ret
hello: .asciz "hello\n"
old: .asciz "old "
flushed: .asciz "flushed\n"
written: .asciz "written\n"
ready: .asciz "ready\n"
bye: .asciz "bye\n"
