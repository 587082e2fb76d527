package modbus

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// device is a Modbus server that does what a test tells it. Every unit has
// the same registers; those that are not in the maps do not exist.
type device struct {
	t    testing.TB
	ln   net.Listener
	rtu  bool // frames with unit and CRC instead of MBAP
	wait sync.WaitGroup

	mu        sync.Mutex
	registers map[uint16]uint16 // input and holding
	bits      map[uint16]bool   // coils and discrete inputs
	requests  [][]byte          // unit and PDU of every one
	silent    map[byte]bool     // units that do not answer
	refuse    map[byte]byte     // function: exception
	delay     time.Duration
	mangle    func(frame []byte) []byte // of every answer, as it goes out
	conns     map[net.Conn]bool
}

func startDevice(t testing.TB, rtu bool) *device {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, ln, rtu)
}

func serveOn(t testing.TB, ln net.Listener, rtu bool) *device {
	d := &device{t: t, ln: ln, rtu: rtu, registers: map[uint16]uint16{}, bits: map[uint16]bool{}, silent: map[byte]bool{}, refuse: map[byte]byte{}, conns: map[net.Conn]bool{}}
	d.wait.Go(d.serve)
	t.Cleanup(d.stop)
	return d
}

// stop has it vanish; again does nothing.
func (d *device) stop() {
	d.ln.Close()
	d.hangUp()
	d.wait.Wait()
}

func (d *device) addr() string { return d.ln.Addr().String() }

func (d *device) serve() {
	for {
		conn, err := d.ln.Accept()
		if err != nil {
			return
		}
		d.set(func() { d.conns[conn] = true })
		d.wait.Go(func() {
			defer conn.Close()
			for d.exchange(conn) == nil {
			}
		})
	}
}

// set changes the device between two answers.
func (d *device) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// hangUp closes every connection.
func (d *device) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.Close()
	}
	clear(d.conns)
}

func (d *device) asked() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.requests)
}

func (d *device) exchange(conn io.ReadWriter) error {
	head := make([]byte, 8) // MBAP and function, or unit, PDU's first five bytes, and CRC
	if _, err := io.ReadFull(conn, head); err != nil {
		return err
	}
	var request []byte // unit and PDU
	if d.rtu {
		request = head[:6]
		if head[1] == 15 || head[1] == 16 { // the byte count came with head
			rest := make([]byte, int(head[6])+1)
			if _, err := io.ReadFull(conn, rest); err != nil {
				return err
			}
			request = append(append([]byte{}, head...), rest[:len(rest)-2]...)
		} else if head[1] == 22 {
			rest := make([]byte, 2)
			if _, err := io.ReadFull(conn, rest); err != nil {
				return err
			}
			request = head
		}
	} else {
		rest := make([]byte, int(binary.BigEndian.Uint16(head[4:]))-2)
		if _, err := io.ReadFull(conn, rest); err != nil {
			return err
		}
		request = append([]byte{head[6], head[7]}, rest...)
	}
	d.mu.Lock()
	d.requests = append(d.requests, request)
	pdu, delay, mangle, silent := d.answer(request[1:]), d.delay, d.mangle, d.silent[request[0]]
	d.mu.Unlock()
	time.Sleep(delay)
	if silent {
		return nil
	}
	frame := append([]byte{request[0]}, pdu...)
	if d.rtu {
		frame = binary.LittleEndian.AppendUint16(frame, crc16(frame))
	} else {
		frame = append(append(append([]byte{}, head[:4]...), 0, byte(len(frame))), frame...)
	}
	if mangle != nil {
		frame = mangle(frame)
	}
	if d.rtu && len(frame) > 4 { // as a terminal server may send it
		conn.Write(frame[:4])
		time.Sleep(2 * time.Millisecond)
		frame = frame[4:]
	}
	_, err := conn.Write(frame)
	return err
}

// answer is the PDU for a PDU.
func (d *device) answer(pdu []byte) []byte {
	function, at := pdu[0], binary.BigEndian.Uint16(pdu[1:])
	if code := d.refuse[function]; code != 0 {
		return []byte{function | 0x80, code}
	}
	n := binary.BigEndian.Uint16(pdu[3:])
	switch function {
	case 1, 2:
		out := make([]byte, 2+(n+7)/8)
		out[0], out[1] = function, byte(len(out)-2)
		for i := range n {
			on, known := d.bits[at+i]
			if !known {
				return []byte{function | 0x80, 2}
			}
			if on {
				out[2+i/8] |= 1 << (i % 8)
			}
		}
		return out
	case 3, 4:
		out := []byte{function, byte(2 * n)}
		for i := range n {
			v, known := d.registers[at+i]
			if !known {
				return []byte{function | 0x80, 2}
			}
			out = binary.BigEndian.AppendUint16(out, v)
		}
		return out
	case 5:
		d.bits[at] = n == 0xff00
	case 6:
		d.registers[at] = n
	case 16:
		for i := range n {
			d.registers[at+i] = binary.BigEndian.Uint16(pdu[6+2*i:])
		}
	case 22:
		and, or := n, binary.BigEndian.Uint16(pdu[5:])
		d.registers[at] = d.registers[at]&and | or&^and
		return pdu[:7]
	default:
		return []byte{function | 0x80, 1}
	}
	return pdu[:5]
}

// crc16 is the CRC of serial frames (Modbus over serial line 1.02, 6.2.2).
func crc16(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, x := range b {
		crc ^= uint16(x)
		for range 8 {
			odd := crc&1 == 1
			crc >>= 1
			if odd {
				crc ^= 0xa001
			}
		}
	}
	return crc
}
