//go:build linux

package pid1

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	evKey    = 1
	keyPower = 116
)

// buttons watches the input devices that have a power key.
type buttons struct {
	m *Machine

	mu   sync.Mutex
	seen map[string]bool
}

func watchButtons(_ context.Context, m *Machine) error {
	b := &buttons{m: m, seen: map[string]bool{}}
	m.buttons.Store(b)
	there, err := filepath.Glob("/dev/input/event*")
	if err != nil {
		return err
	}
	for _, dev := range there { // those that appear later come as events
		b.watch(strings.TrimPrefix(dev, "/dev/"))
	}
	return nil
}

// watch reads a device ("input/event0") if it has a power key. Keyboards
// without one are none of our business.
func (b *buttons) watch(dev string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys, err := os.ReadFile(filepath.Join("/sys/class", dev, "device/capabilities/key"))
	if err != nil || b.seen[dev] || !hasKey(string(keys), keyPower) {
		return
	}
	b.seen[dev] = true
	b.m.Go("power button", func(ctx context.Context) error {
		fd, err := unix.Open("/dev/"+dev, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), dev)
		defer context.AfterFunc(ctx, func() { f.Close() })()
		defer f.Close()
		buf := make([]byte, 64*eventSize)
		for {
			n, err := f.Read(buf)
			if err != nil {
				b.mu.Lock()
				delete(b.seen, dev)
				b.mu.Unlock()
				return nil // unplugged, or the end
			}
			if powerPressed(buf[:n]) {
				b.m.request(actionPowerOff, "power button")
			}
		}
	})
}

// eventSize is sizeof(struct input_event): two words of time, type, code,
// value.
const eventSize = 2*int(unsafe.Sizeof(uintptr(0))) + 8

// powerPressed looks for the power key going down.
func powerPressed(events []byte) bool {
	le := binary.NativeEndian
	for ; len(events) >= eventSize; events = events[eventSize:] {
		e := events[eventSize-8:]
		if le.Uint16(e) == evKey && le.Uint16(e[2:]) == keyPower && le.Uint32(e[4:]) == 1 {
			return true
		}
	}
	return false
}

// hasKey looks a bit up in a capability mask of sysfs: hexadecimal words of
// the machine's size, the highest first.
func hasKey(mask string, key int) bool {
	words := strings.Fields(mask)
	at := len(words) - 1 - key/strconv.IntSize
	if at < 0 {
		return false
	}
	w, err := strconv.ParseUint(words[at], 16, 64)
	return err == nil && w>>(key%strconv.IntSize)&1 == 1
}
