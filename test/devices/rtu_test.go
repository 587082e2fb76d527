package devices

import (
	"encoding/binary"
	"net"
	"testing"
)

// playRTU is a Modbus device of one holding register at the other end of a
// serial line (Modbus over Serial Line 1.02): it answers "read holding
// registers" with value, whatever the address.
func playRTU(t *testing.T, socket string, value uint16) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept() // QEMU connects when it starts
		if err != nil {
			return
		}
		defer conn.Close()
		var line []byte
		buf := make([]byte, 256)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			line = append(line, buf[:n]...)
			for len(line) >= 8 {
				if crc(line[:6]) != binary.LittleEndian.Uint16(line[6:]) || line[1] != 3 {
					line = line[1:] // noise: look for the next frame
					continue
				}
				count := binary.BigEndian.Uint16(line[4:])
				answer := []byte{line[0], 3, byte(2 * count)}
				for range count {
					answer = binary.BigEndian.AppendUint16(answer, value)
				}
				if _, err := conn.Write(binary.LittleEndian.AppendUint16(answer, crc(answer))); err != nil {
					return
				}
				line = line[8:]
			}
		}
	}()
}

func crc(frame []byte) uint16 {
	sum := uint16(0xffff)
	for _, b := range frame {
		sum ^= uint16(b)
		for range 8 {
			odd := sum&1 != 0
			sum >>= 1
			if odd {
				sum ^= 0xa001
			}
		}
	}
	return sum
}
