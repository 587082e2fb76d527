package snmp

import (
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gosnmp/gosnmp"
)

// agent answers requests of versions 1 and 2c.
type agent struct {
	t    testing.TB
	conn net.PacketConn
	done chan struct{}

	mu       sync.Mutex
	objects  map[string]gosnmp.SnmpPDU
	most     int      // objects in one answer; more are too big
	requests []string // first object of each, behind the kind of request
	delay    time.Duration
	mangle   func([]byte) []byte
	deaf     string // a request that has it is not answered
}

// serve starts an agent until stop, or the test's end.
func serve(t testing.TB, addr string, objects ...gosnmp.SnmpPDU) *agent {
	t.Helper()
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, conn: conn, done: make(chan struct{}), objects: map[string]gosnmp.SnmpPDU{}, most: 100}
	for _, o := range objects {
		a.objects[o.Name] = o
	}
	go a.run()
	t.Cleanup(a.stop)
	return a
}

func (a *agent) stop() {
	a.conn.Close()
	<-a.done
}

func (a *agent) addr() string { return a.conn.LocalAddr().String() }

func (a *agent) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

func (a *agent) asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

func (a *agent) run() {
	defer close(a.done)
	buf := make([]byte, 64<<10)
	for {
		n, from, err := a.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		g := &gosnmp.GoSNMP{Version: gosnmp.Version2c}
		packet, err := g.SnmpDecodePacket(buf[:n])
		if err != nil {
			a.t.Errorf("the agent is asked what is no request: %v", err)
			continue
		}
		a.mu.Lock()
		answers := a.answer(packet)
		delay, mangle := a.delay, a.mangle
		a.mu.Unlock()
		out, err := packet.MarshalMsg()
		if err != nil {
			a.t.Errorf("the agent's answer: %v", err)
			continue
		}
		if mangle != nil {
			out = mangle(out)
		}
		send := func() { _, _ = a.conn.WriteTo(out, from) }
		switch {
		case !answers:
		case delay > 0:
			time.AfterFunc(delay, send)
		default:
			send()
		}
	}
}

// answer makes a request its answer; false: there is none.
func (a *agent) answer(p *gosnmp.SnmpPacket) bool {
	kind := map[gosnmp.PDUType]string{
		gosnmp.GetRequest: "get ", gosnmp.GetNextRequest: "next ", gosnmp.GetBulkRequest: "bulk ", gosnmp.SetRequest: "set ",
	}[p.PDUType]
	a.requests = append(a.requests, kind+p.Variables[0].Name)
	if slices.ContainsFunc(p.Variables, func(v gosnmp.SnmpPDU) bool { return v.Name == a.deaf }) {
		return false
	}
	asked := p.Variables
	request := p.PDUType
	p.PDUType, p.Error, p.ErrorIndex = gosnmp.GetResponse, gosnmp.NoError, 0
	if len(asked) > a.most {
		p.Error = gosnmp.TooBig
		return true
	}
	switch request {
	case gosnmp.GetNextRequest:
		p.Variables = a.behind(asked[0].Name, 1)
	case gosnmp.GetBulkRequest:
		p.Variables = a.behind(asked[0].Name, int(p.MaxRepetitions))
	case gosnmp.SetRequest:
		if asked[0].Name == readOnly {
			p.Error, p.ErrorIndex = gosnmp.NotWritable, 1
			return true
		}
		a.objects[asked[0].Name] = asked[0]
	default:
		p.Variables = slices.Clone(asked)
		for i, v := range asked {
			if o, ok := a.objects[v.Name]; ok {
				p.Variables[i] = o
			} else {
				p.Variables[i].Type = gosnmp.NoSuchObject
				if p.Version == gosnmp.Version1 {
					p.Variables, p.Error, p.ErrorIndex = asked, gosnmp.NoSuchName, uint8(i+1)
					return true
				}
			}
		}
	}
	if p.Version == gosnmp.Version1 && p.Variables[0].Type == gosnmp.EndOfMibView {
		p.Variables, p.Error, p.ErrorIndex = asked, gosnmp.NoSuchName, 1
	}
	return true
}

// behind are the n objects behind one.
func (a *agent) behind(name string, n int) []gosnmp.SnmpPDU {
	var out []gosnmp.SnmpPDU
	for _, o := range a.objects {
		if after(o.Name, name) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(x, y gosnmp.SnmpPDU) int {
		if after(x.Name, y.Name) {
			return 1
		}
		return -1
	})
	if len(out) < n {
		out = append(out, gosnmp.SnmpPDU{Name: name, Type: gosnmp.EndOfMibView})
	}
	return out[:min(n, len(out))]
}
