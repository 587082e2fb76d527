package modbus

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/site"
)

func linkTo(t testing.TB, d *device) *link {
	t.Helper()
	cfg := &site.Modbus{Address: d.addr(), Transport: site.ModbusTCP}
	if d.rtu {
		cfg.Transport = site.ModbusRTUOverTCP
	}
	l := open(t.Context(), cfg, 300*time.Millisecond, 0)
	t.Cleanup(l.close)
	return l
}

// TestLink reads and writes over both framings.
func TestLink(t *testing.T) {
	for name, rtu := range map[string]bool{"tcp": false, "rtu-over-tcp": true} {
		t.Run(name, func(t *testing.T) {
			d := startDevice(t, rtu)
			d.registers = map[uint16]uint16{0: 1, 1: 2, 2: 0x8001}
			for i := range uint16(10) {
				d.bits[i] = i%3 == 0
			}
			l := linkTo(t, d)
			read := func(address string, count int) string {
				t.Helper()
				s := spanOf(pointsAt(t, address))
				s.count = count
				got, err := l.read(t.Context(), s)
				if err != nil {
					t.Fatalf("%s: %v", address, err)
				}
				return string(got)
			}
			if got := read("holding:0", 3); got != "\x00\x01\x00\x02\x80\x01" {
				t.Errorf("holding: % x", got)
			}
			if got := read("input:1", 1); got != "\x00\x02" {
				t.Errorf("input: % x", got)
			}
			for _, table := range []string{"coil:0", "discrete:0"} {
				if got := read(table, 10); got != "\x49\x02" {
					t.Errorf("%s: % x", table, got)
				}
			}
			if _, err := l.read(t.Context(), spanOf(pointsAt(t, "holding:9"))); exception(err) != 2 {
				t.Errorf("a register it does not have: %v", err)
			}
			write := func(address string, value any) {
				t.Helper()
				p := pointsAt(t, address)[0]
				raw, err := p.encode(value)
				if err != nil {
					t.Fatal(err)
				}
				if err := l.write(t.Context(), p, raw); err != nil {
					t.Errorf("write %s: %v", address, err)
				}
			}
			write("coil:1", true)
			write("holding:0", "7")
			write("holding:0*2", "65538")
			write("holding:2.1", true)
			write("holding:2.15", false)
			d.set(func() { d.refuse[22] = 1 })
			write("holding:2.4", true)
			d.set(func() { d.refuse[6] = 1 })
			write("holding:1", "9")
			if !d.bits[1] || d.registers[0] != 1 || d.registers[1] != 9 || d.registers[2] != 0x0013 {
				t.Errorf("coil 1 %v, registers %x", d.bits[1], d.registers)
			}
		})
	}
}

// TestMalformedAnswers: none of them is taken for a value, and the next
// request is answered.
func TestMalformedAnswers(t *testing.T) {
	mangles := map[string]func([]byte) []byte{
		"short":          func(f []byte) []byte { return f[:len(f)-1] },
		"empty":          func(f []byte) []byte { return nil },
		"noise":          func(f []byte) []byte { return []byte(strings.Repeat("\xff", 300)) },
		"other unit":     func(f []byte) []byte { g := append([]byte{}, f...); g[len(g)-len(f)+unitAt(f)] ^= 7; return g },
		"other function": func(f []byte) []byte { f[unitAt(f)+1] = 6; return f },
		"byte count":     func(f []byte) []byte { f[unitAt(f)+2]++; return f },
		"fewer bytes":    func(f []byte) []byte { f[unitAt(f)+2] = 2; return f },
		"length zero":    func(f []byte) []byte { f[4], f[5] = 0, 0; return f },
		"length great":   func(f []byte) []byte { f[4], f[5] = 255, 255; return f },
	}
	for _, rtu := range []bool{false, true} {
		for name, mangle := range mangles {
			d := startDevice(t, rtu)
			d.registers = map[uint16]uint16{0: 1, 1: 2}
			l := linkTo(t, d)
			s := spanOf(pointsAt(t, "holding:0*2"))
			d.set(func() { d.mangle = mangle })
			if got, err := l.read(t.Context(), s); err == nil || exception(err) != 0 {
				t.Errorf("%s, rtu %v: got % x, %v, want an error", name, rtu, got, err)
			}
			d.set(func() { d.mangle = nil })
			if got, err := l.read(t.Context(), s); err != nil || string(got) != "\x00\x01\x00\x02" {
				t.Errorf("%s, rtu %v: after it: % x, %v", name, rtu, got, err)
			}
		}
	}
}

// unitAt is where the unit stands in a frame.
func unitAt(f []byte) int {
	if len(f) > 8 && f[2] == 0 && f[3] == 0 && f[4] == 0 { // MBAP
		return 6
	}
	return 0
}

// TestLateAnswer: an answer that comes after its time is not taken for that
// of the next request.
func TestLateAnswer(t *testing.T) {
	for _, rtu := range []bool{false, true} {
		d := startDevice(t, rtu)
		d.registers = map[uint16]uint16{0: 1, 1: 2}
		l := linkTo(t, d)
		d.set(func() { d.delay = 400 * time.Millisecond })
		if _, err := l.read(t.Context(), spanOf(pointsAt(t, "holding:0"))); err == nil {
			t.Fatal("a late answer was taken")
		}
		d.set(func() { d.delay = 0 })
		if got, err := l.read(t.Context(), spanOf(pointsAt(t, "holding:1"))); err != nil || string(got) != "\x00\x02" {
			t.Errorf("rtu %v: got % x, %v", rtu, got, err)
		}
	}
}

// TestStopMidRequest: the end of the context ends a request at once.
func TestStopMidRequest(t *testing.T) {
	d := startDevice(t, false)
	d.silent[1] = true
	ctx, cancel := context.WithCancel(t.Context())
	l := open(ctx, &site.Modbus{Address: d.addr(), Transport: site.ModbusTCP}, time.Hour, 0)
	defer l.close()
	done := make(chan error)
	go func() {
		_, err := l.read(ctx, spanOf(pointsAt(t, "holding:0")))
		done <- err
	}()
	for d.asked() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("got an answer of a silent device")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the request goes on")
	}
}
