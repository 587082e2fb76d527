package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime/metrics"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

const (
	// capturedID stands in the corpus for the id of topic "t", which is
	// another one in every run.
	capturedID = "wayside topic id"
	// mostFuzzed is how long a fuzzed request may be, and mostMade how much
	// memory may be made for one in all, most of which is free again long
	// before its end.
	mostFuzzed = 64 << 10
	mostMade   = 48 << 20
	// mostWait is how long a request may go unanswered that waits for nothing
	// but the broker, by the test's clock, which leaps ahead when all wait.
	mostWait = time.Minute
)

// FuzzRequest sends any request to a server with a topic, a group and records.
// It is answered or its connection is closed, another connection is served
// afterwards, and nothing panics or takes memory by claim.
//
// testdata/fuzz/FuzzRequest holds requests of real clients; see test/capture.
func FuzzRequest(f *testing.F) {
	for _, a := range apis() {
		for v := a.min; v <= a.max; v++ {
			for n := range 3 {
				req := kmsg.RequestForKey(a.key.Int16())
				fill(reflect.ValueOf(req).Elem(), n)
				req.SetVersion(v)
				f.Add(frameOf(req, 1)[sizeBytes:])
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > mostFuzzed {
			return
		}
		synctest.Test(t, func(t *testing.T) { fuzzRequest(t, b) })
	})
}

func fuzzRequest(t *testing.T, b []byte) {
	s, defects := fuzzedServer(t)
	b = bytes.ReplaceAll(b, []byte(capturedID), idOf(s.Catalog.Get("t").ID))
	sealAll(b)
	ln := newPipes()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, []net.Listener{ln}) }()
	bystander, c := ln.dial(), ln.dial()
	alive(t, bystander)
	before := made()
	answered := exchange(c, b)
	if n := made() - before; n > mostMade {
		t.Errorf("a request of %d bytes made %d bytes", len(b), n)
	}
	if key := int16(binary.BigEndian.Uint16(append(bytes.Clone(b), 0, 0))); !answered && !waits[key] {
		t.Errorf("no answer within %v, and the connection is open", mostWait)
	}
	alive(t, bystander)
	c.Close()
	bystander.Close()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	for _, d := range *defects {
		t.Error(d)
	}
}

// idOf is a topic id's bytes.
func idOf(id meta.ID) []byte { return id[:] }

// sealAll lets the fuzzer past the checksums of record batches.
func sealAll(b []byte) {
	if len(b) < minHeader || b[0] != 0 || b[1] != byte(kmsg.Produce) {
		return
	}
	for rest := b; ; {
		// A batch is known by its magic byte behind a plausible length.
		i := bytes.IndexByte(rest, 2)
		if i < 0 {
			return
		}
		if i >= 16 && len(rest) > i+5 {
			batch := rest[i-16:]
			if n := int64(binary.BigEndian.Uint32(batch[8:])) + 12; n >= 61 && n <= int64(len(batch)) {
				binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:n], crc32.MakeTable(crc32.Castagnoli)))
			}
		}
		rest = rest[i+1:]
	}
}

// fuzzedServer is a server with some state. What its log says of panics is
// collected.
func fuzzedServer(t *testing.T) (*Server, *defects) {
	t.Helper()
	s := newServer(t)
	d := &defects{}
	s.Log = slog.New(d)
	s.Authorizer = auth.NewAuthorizer(auth.Policy{SuperUsers: []string{auth.Anonymous}}, nil)
	t.Cleanup(func() { // before those of newServer
		s.Groups.Close()
		s.Txns.Close()
		if err := errors.Join(s.Catalog.Close(), s.Meta.Close()); err != nil {
			t.Error(err)
		}
	})
	for name, config := range map[string]map[string]string{"t": nil, "c": {"cleanup.policy": "compact"}} {
		topic, err := s.Catalog.Create(name, 2, config)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			b := batchOf(i+1, 20, 0)
			h, err := store.Check(b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := topic.Partitions[0].Log.Append(b, h, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Meta.Commit("g", []meta.Offset{{Topic: "t", LeaderEpoch: -1}}); err != nil {
		t.Fatal(err)
	}
	return s, d
}

// defects are the panics that were kept from ending the server.
type defects []string

func (d *defects) Enabled(context.Context, slog.Level) bool { return true }
func (d *defects) WithAttrs([]slog.Attr) slog.Handler       { return d }
func (d *defects) WithGroup(string) slog.Handler            { return d }

func (d *defects) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if text := a.Value.String(); strings.HasPrefix(text, "panic:") {
			*d = append(*d, text)
		}
		return true
	})
	return nil
}

// made is how many bytes were ever allocated.
func made() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// exchange sends a request and reads until the client is served again behind it;
// false when neither that nor the connection's end comes.
func exchange(c net.Conn, b []byte) bool {
	c.SetDeadline(time.Now().Add(mostWait))
	whole := append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	go c.Write(append(whole, frameOf(kmsg.NewPtrApiVersionsRequest(), behind)...))
	for {
		corr, err := answer1(c)
		if err != nil {
			return !isTimeout(err)
		}
		if corr == behind {
			return true
		}
	}
}

// behind is a correlation id that no other request has.
const behind = 0x7e57c0de

// answer1 reads one answer.
func answer1(c net.Conn) (corr int32, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, err
	}
	n := int64(binary.BigEndian.Uint32(head[:])) - 4
	if n < 0 || n > 64<<20 {
		return 0, fmt.Errorf("an answer of %d bytes", n)
	}
	_, err = io.CopyN(io.Discard, c, n)
	return int32(binary.BigEndian.Uint32(head[4:])), err
}

// alive fails the test unless the connection is served.
func alive(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetDeadline(time.Now().Add(mostWait))
	go c.Write(frameOf(kmsg.NewPtrMetadataRequest(), 5))
	if corr, err := answer1(c); err != nil || corr != 5 {
		t.Fatalf("a bystander's answer has correlation id %d, %v", corr, err)
	}
}

// pipes is a listener without a network, so that the clock may be the test's.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	c, s := net.Pipe()
	p.conns <- s
	return c
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// TestCorpus: the requests of real clients are there for all keys that such
// clients use, in versions that are served.
func TestCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/fuzz/FuzzRequest/*")
	if err != nil {
		t.Fatal(err)
	}
	var bytes int
	got := map[kmsg.Key]int{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bytes += len(b)
		var key, version int
		if _, err := fmt.Sscanf(filepath.Base(name), "%d-%d-", &key, &version); err == nil {
			got[kmsg.Key(key)]++
		}
	}
	t.Logf("%d requests of %d keys, %d bytes", len(files), len(got), bytes)
	for _, a := range apis() {
		if got[a.key] == 0 && !neverCaptured[a.key] {
			t.Errorf("no request of %s is in the corpus: run test/capture", a.key.Name())
		}
	}
	if bytes > 400<<10 {
		t.Errorf("the corpus is of %d bytes", bytes)
	}
}

// neverCaptured are requests that no client of test/capture sends.
var neverCaptured = map[kmsg.Key]bool{kmsg.UpdateFeatures: true}
