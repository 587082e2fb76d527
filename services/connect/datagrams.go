package connect

import (
	"context"
	"fmt"
	"net"
)

// Datagrams gives what comes at a UDP address to take, one after the other,
// until ctx ends; b is take's to keep. pc is for answers.
func (b *Box) Datagrams(ctx context.Context, address string, take func(pc net.PacketConn, b []byte, from net.Addr)) error {
	pc, err := b.ListenPacket(address)
	if err != nil {
		return fmt.Errorf("listen on %s: %v", address, err)
	}
	defer pc.Close()
	defer context.AfterFunc(ctx, func() { pc.Close() })()
	b.Up("listens on " + pc.LocalAddr().String())
	buf := make([]byte, 64<<10)
	for {
		n, from, err := pc.ReadFrom(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("receive at %s: %v", address, err)
		case n > 0:
			take(pc, append([]byte(nil), buf[:n]...), from)
		}
	}
}
