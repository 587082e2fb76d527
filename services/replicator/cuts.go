package replicator

import (
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// cuts notes that the other end has closed a connection of a client. franz-go
// reads only where it waits for an answer: of a connection at rest it would learn
// when it is used next, hours later and in the middle of a transaction. So the
// sockets are asked, which costs no bytes. What the client itself closes, after
// minutes at rest, was alive until then and says nothing.
type cuts struct {
	mu  sync.Mutex
	all map[net.Conn]bool
	cut bool
}

var (
	_ kgo.HookBrokerConnect    = (*cuts)(nil)
	_ kgo.HookBrokerDisconnect = (*cuts)(nil)
)

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *cuts) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[net.Conn]bool{}
	}
	c.all[conn] = true
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (c *cuts) OnBrokerDisconnect(_ kgo.BrokerMetadata, conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(conn)
	delete(c.all, conn)
}

// note looks at a connection that was not seen to be gone before.
func (c *cuts) note(conn net.Conn) {
	if c.all[conn] && kafka.Gone(conn) {
		c.cut = true
		delete(c.all, conn)
	}
}

// swap is true if a connection was lost since it was asked last.
func (c *cuts) swap() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.all {
		c.note(conn)
	}
	was := c.cut
	c.cut = false
	return was
}
