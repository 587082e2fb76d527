package harness

import (
	"net"
	"strconv"
	"testing"
)

// TestFreeAddr: no outgoing connection gets that port (Linux: from 32768 on).
func TestFreeAddr(t *testing.T) {
	for range 20 {
		_, port, err := net.SplitHostPort(FreeAddr(t))
		if n, _ := strconv.Atoi(port); err != nil || n < 1024 || n >= 32768 {
			t.Errorf("port %s, %v", port, err)
		}
	}
}
