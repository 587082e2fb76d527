package link

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
)

// press is a Modbus device with a few holding registers. It knows functions 3
// and 6 and 16 (MODBUS Application Protocol 1.1b3, 6.3, 6.6, 6.12).
type press struct {
	guestAddr string

	mu        sync.Mutex
	registers [16]uint16
}

func startPress(t *testing.T) *press {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	p := &press{guestAddr: fmt.Sprintf("%s:%d", hostFromGuest, ln.Addr().(*net.TCPAddr).Port)}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *press) set(n int, v uint16) { p.mu.Lock(); defer p.mu.Unlock(); p.registers[n] = v }

func (p *press) get(n int) uint16 { p.mu.Lock(); defer p.mu.Unlock(); return p.registers[n] }

func (p *press) serve(c net.Conn) {
	defer c.Close()
	head := make([]byte, 7) // transaction, protocol, length, unit
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		pdu := make([]byte, max(int(binary.BigEndian.Uint16(head[4:]))-1, 1))
		if _, err := io.ReadFull(c, pdu); err != nil {
			return
		}
		answer := p.answer(pdu)
		binary.BigEndian.PutUint16(head[4:], uint16(len(answer)+1))
		if _, err := c.Write(append(head[:7:7], answer...)); err != nil {
			return
		}
	}
}

func (p *press) answer(pdu []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	refuse := []byte{pdu[0] | 0x80, 2}
	if len(pdu) < 5 {
		return refuse
	}
	at, n := int(binary.BigEndian.Uint16(pdu[1:])), int(binary.BigEndian.Uint16(pdu[3:]))
	switch {
	case pdu[0] == 3 && n > 0 && at+n <= len(p.registers):
		out := []byte{3, byte(2 * n)}
		for _, v := range p.registers[at : at+n] {
			out = binary.BigEndian.AppendUint16(out, v)
		}
		return out
	case pdu[0] == 6 && at < len(p.registers):
		p.registers[at] = uint16(n)
		return pdu
	case pdu[0] == 16 && at+n <= len(p.registers) && len(pdu) == 6+2*n:
		for i := range n {
			p.registers[at+i] = binary.BigEndian.Uint16(pdu[6+2*i:])
		}
		return pdu[:5]
	}
	return refuse
}
