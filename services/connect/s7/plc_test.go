package s7

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// plc is an S7 PLC that does what a test tells it. Blocks are its data blocks
// by number.
type plc struct {
	ln   net.Listener
	wait sync.WaitGroup

	mu     sync.Mutex
	blocks map[int][]byte
	pdu    int
	jobs   [][]byte
	silent bool
	mangle func(answer []byte) []byte
	conns  map[net.Conn]bool
}

func startPLC(t testing.TB) *plc {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, ln)
}

func serveOn(t testing.TB, ln net.Listener) *plc {
	p := &plc{ln: ln, pdu: 240, blocks: map[int][]byte{}, conns: map[net.Conn]bool{}}
	p.wait.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			p.set(func() { p.conns[conn] = true })
			p.wait.Go(func() {
				defer conn.Close()
				for p.exchange(conn) == nil {
				}
			})
		}
	})
	t.Cleanup(p.stop)
	return p
}

// stop has it vanish; again does nothing.
func (p *plc) stop() {
	p.ln.Close()
	p.hangUp()
	p.wait.Wait()
}

func (p *plc) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.jobs)
}

func (p *plc) addr() string { return p.ln.Addr().String() }

// set changes the PLC between two answers.
func (p *plc) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// hangUp closes every connection.
func (p *plc) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *plc) exchange(conn net.Conn) error {
	head := make([]byte, 4)
	if _, err := io.ReadFull(conn, head); err != nil {
		return err
	}
	rest := make([]byte, int(binary.BigEndian.Uint16(head[2:]))-4)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return err
	}
	request := append(head, rest...)
	p.mu.Lock()
	answer := p.answer(request)
	if p.silent {
		answer = nil
	} else if p.mangle != nil && request[5] == 0xf0 && request[17] != 0xf0 {
		answer = p.mangle(answer)
	}
	p.mu.Unlock()
	_, err := conn.Write(answer)
	return err
}

// answer is the telegram for a telegram.
func (p *plc) answer(b []byte) []byte {
	if b[5] == 0xe0 { // connection request: the same, confirmed
		out := append([]byte{}, b...)
		out[5] = 0xd0
		return out
	}
	params := b[17 : 17+int(binary.BigEndian.Uint16(b[13:]))]
	if params[0] == 0xf0 { // set up communication
		return p.ack(b, []byte{0xf0, 0, 0, 1, 0, 1, byte(p.pdu >> 8), byte(p.pdu)}, nil)
	}
	p.jobs = append(p.jobs, b)
	var data []byte
	for at := 2; at+itemSize <= len(params); at += itemSize {
		i := params[at : at+itemSize]
		n, block := int(binary.BigEndian.Uint16(i[4:])), p.blocks[int(binary.BigEndian.Uint16(i[6:]))]
		addr := int(i[9])<<16 | int(i[10])<<8 | int(i[11])
		switch {
		case block == nil:
			data = append(data, 10)
		case addr/8+n > len(block):
			data = append(data, 5)
		case params[0] == writeVar && i[3] == asBits:
			block[addr/8] &^= 1 << (addr % 8)
			block[addr/8] |= b[len(b)-1] << (addr % 8)
			data = append(data, codeOK)
		case params[0] == writeVar:
			copy(block[addr/8:], b[17+len(params)+4:])
			data = append(data, codeOK)
		default:
			data = append(data, codeOK, dataBytes, byte(n>>5), byte(n<<3))
			data = append(data, block[addr/8:addr/8+n]...)
			if n%2 == 1 && at+itemSize < len(params) {
				data = append(data, 0)
			}
			continue
		}
		if params[0] == readVar {
			data = append(data, 0, 0, 0)
		}
	}
	return p.ack(b, params[:2], data)
}

func (p *plc) ack(request, params, data []byte) []byte {
	n := isoSize + ackSize + len(params) + len(data)
	b := []byte{3, 0, byte(n >> 8), byte(n), 2, 0xf0, 0x80, 0x32, 3, 0, 0, request[11], request[12],
		0, byte(len(params)), byte(len(data) >> 8), byte(len(data)), 0, 0}
	return append(append(b, params...), data...)
}
