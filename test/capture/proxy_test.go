package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

const (
	// mostBytes is how long a request may be to be kept, and perVersion how
	// many of one key and version are: small ones say as much as large ones.
	mostBytes  = 1200
	perVersion = 3
)

// proxy passes connections on to a broker, and keeps some of the requests.
type proxy struct {
	addr string // its own
	to   string

	mu    sync.Mutex
	kept  map[uint32][][]byte // by key<<16|version
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// startProxy serves until the test ends.
func startProxy(t *testing.T) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: ln.Addr().String(), kept: map[uint32][][]byte{}, conns: map[net.Conn]struct{}{}}
	p.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.pass(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

// pass returns when either side has gone.
func (p *proxy) pass(c net.Conn) {
	defer c.Close()
	b, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer b.Close()
	p.mu.Lock()
	p.conns[c] = struct{}{}
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer c.Close()
		io.Copy(c, b)
	})
	p.requests(c, b)
	b.Close()
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

func (p *proxy) requests(from io.Reader, to io.Writer) error {
	for {
		var size [4]byte
		if _, err := io.ReadFull(from, size[:]); err != nil {
			return err
		}
		b := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(from, b); err != nil {
			return err
		}
		p.keep(b)
		if _, err := to.Write(append(size[:], b...)); err != nil {
			return err
		}
	}
}

// keep keeps the first requests of a key and version that differ in length:
// those alike say the same.
func (p *proxy) keep(b []byte) {
	if len(b) < 8 || len(b) > mostBytes {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := binary.BigEndian.Uint32(b)
	alike := func(old []byte) bool { return len(old) == len(b) }
	switch all := p.kept[id]; {
	case slices.ContainsFunc(all, alike):
	case len(all) < perVersion:
		p.kept[id] = append(all, b)
	case len(all[perVersion-1]) < len(b): // the longest tells most
		all[perVersion-1] = b
	}
}

// marker stands for topics' ids; FuzzRequest puts the id of its topic there.
const marker = "wayside topic id"

// save replaces the corpus in dir. ids are those of topics.
func (p *proxy) save(dir string, ids [][]byte) (n int, err error) {
	old, _ := filepath.Glob(filepath.Join(dir, "*-*-*"))
	for _, name := range old {
		if err := os.Remove(name); err != nil {
			return 0, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, all := range p.kept {
		for _, b := range all {
			for _, tid := range ids {
				b = bytes.ReplaceAll(b, tid, []byte(marker))
			}
			binary.BigEndian.PutUint32(b[4:], 1) // the correlation id
			sum := fnv.New32a()
			sum.Write(b)
			name := filepath.Join(dir, fmt.Sprintf("%02d-%02d-%08x", id>>16, id&0xffff, sum.Sum32()))
			err = errors.Join(err, os.WriteFile(name, fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", b), 0o644))
			n++
		}
	}
	return n, err
}
