package harness

import (
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy is an uplink that fails: TCP connections to Addr go on to a target,
// at a rate, with a delay, until they are cut, reset or stalled.
type Proxy struct {
	Addr string

	target  string
	ln      net.Listener
	rate    atomic.Int64 // bytes a second each way, 0 for no limit
	latency atomic.Int64 // nanoseconds, each way
	stalled atomic.Bool
	down    atomic.Bool
	bytes   atomic.Int64
	watch   atomic.Pointer[func(key int16)]
	done    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// StartProxy starts a proxy, to a target that Target names later.
func StartProxy(t testing.TB) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: ln.Addr().String(), ln: ln, conns: map[net.Conn]bool{}}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		ln.Close()
		p.stalled.Store(false)
		p.Cut()
		p.done.Wait()
	})
	return p
}

// Target is where connections go from now on, host:port.
func (p *Proxy) Target(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Cut ends every connection as a broken cable does that somebody notices,
// and takes no new ones until Heal.
func (p *Proxy) Cut() { p.down.Store(true); p.Reset() }

// Heal undoes what was done to the uplink, but for rate and latency.
func (p *Proxy) Heal() { p.down.Store(false); p.stalled.Store(false) }

// Reset ends every connection at once, in the middle of whatever is on its
// way; what the peer had sent is lost.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
}

// Stall keeps connections open and lets nothing pass until Heal.
func (p *Proxy) Stall() { p.stalled.Store(true) }

// Limit sets bytes a second, each way and connection, and what each piece is
// delayed by.
func (p *Proxy) Limit(rate int64, latency time.Duration) {
	p.rate.Store(rate)
	p.latency.Store(int64(latency))
}

// Watch has f called with the API key of each Kafka request that begins a
// piece of what clients send, once it has passed; nil ends that.
func (p *Proxy) Watch(f func(key int16)) { p.watch.Store(&f) }

// saw tells who watches of a piece that has passed.
func (p *Proxy) saw(piece []byte) {
	if f := p.watch.Load(); f != nil && *f != nil && len(piece) >= 6 {
		(*f)(int16(binary.BigEndian.Uint16(piece[4:])))
	}
}

// Bytes is what has passed, both ways.
func (p *Proxy) Bytes() int64 { return p.bytes.Load() }

func (p *Proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		if p.down.Load() {
			c.Close()
			continue
		}
		up, err := net.DialTimeout("tcp", target, 5*time.Second)
		if err != nil {
			c.Close()
			continue
		}
		p.mu.Lock()
		p.conns[c], p.conns[up] = true, true
		p.mu.Unlock()
		p.done.Go(func() { p.carry(c, up, p.saw) })
		p.done.Go(func() { p.carry(up, c, func([]byte) {}) })
	}
}

// carry copies until either end closes, and closes both.
func (p *Proxy) carry(from, to net.Conn, passed func([]byte)) {
	defer func() {
		from.Close()
		to.Close()
		p.mu.Lock()
		delete(p.conns, from)
		delete(p.conns, to)
		p.mu.Unlock()
	}()
	buf := make([]byte, 32<<10)
	for {
		part := buf
		rate := p.rate.Load()
		if rate > 0 { // pieces of a tenth of a second
			part = buf[:min(int64(len(buf)), max(rate/10, 1))]
		}
		n, err := from.Read(part)
		for p.stalled.Load() && !p.down.Load() {
			time.Sleep(5 * time.Millisecond)
		}
		if rate > 0 {
			time.Sleep(time.Duration(int64(n) * int64(time.Second) / rate))
		}
		time.Sleep(time.Duration(p.latency.Load()))
		p.bytes.Add(int64(n))
		if _, werr := to.Write(part[:n]); werr != nil || err != nil {
			return
		}
		passed(part[:n])
	}
}
