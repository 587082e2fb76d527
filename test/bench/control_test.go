package bench

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A control does the least that a broker cannot avoid. Its frames are Kafka's
// in form: a size of four bytes, then a correlation id at byte 4 of a request.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// sinkServer takes frames. Mode "write" checks their CRC-32C and appends them
// to a file, "discard" does nothing with them, "sync" also syncs the file
// before each answer, "behind" syncs it beside for every 16 MB, which is what
// acks=1 promises.
func sinkServer(j job) (any, error) {
	ln, err := listen()
	if err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(j.Dir, "sink"))
	if err != nil {
		return nil, err
	}
	s := &sink{mode: j.Mode, f: f, behind: make(chan struct{}, 1)}
	go s.syncBehind()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	serving(ln.Addr().String())
	return nil, os.Remove(f.Name())
}

type sink struct {
	mode string
	f    *os.File
	mu   sync.Mutex
	at   int64
	// behind is told when syncEvery bytes more have been written.
	behind chan struct{}
}

const syncEvery = 16 << 20

func (s *sink) syncBehind() {
	for range s.behind {
		unix.Fdatasync(int(s.f.Fd()))
	}
}

func (s *sink) serve(c net.Conn) {
	defer c.Close()
	var sum uint32
	buf := make([]byte, 2<<20)
	r := bufio.NewReaderSize(c, 4096)
	for {
		if _, err := io.ReadFull(r, buf[:4]); err != nil {
			return
		}
		b := buf[:binary.BigEndian.Uint32(buf)]
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		if s.mode != "discard" {
			sum ^= crc32.Checksum(b, castagnoli)
			if err := s.write(b); err != nil {
				return
			}
		}
		answer := [8]byte{0, 0, 0, 4, b[4], b[5], b[6], b[7]}
		if _, err := c.Write(answer[:]); err != nil {
			return
		}
	}
}

func (s *sink) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.f.WriteAt(b, s.at); err != nil {
		return err
	}
	// Never over what it wrote before: pages that are in the cache cost a third
	// of new ones, and a log only ever writes new ones.
	before := s.at
	s.at += int64(len(b))
	switch {
	case s.mode == "sync":
		return unix.Fdatasync(int(s.f.Fd()))
	case s.mode == "behind" && s.at/syncEvery > before/syncEvery:
		s.behind <- struct{}{} // waits when the disk is slower
	}
	return nil
}

// sendfileServer answers each frame with a length and that many bytes of a
// file, by sendfile.
func sendfileServer(j job) (any, error) {
	f, err := os.Open(j.Topic)
	if err != nil {
		return nil, err
	}
	ln, err := listen()
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go sendFile(c.(*net.TCPConn), f, j.Size)
		}
	}()
	serving(ln.Addr().String())
	return nil, nil
}

func sendFile(c *net.TCPConn, f *os.File, n int) {
	defer c.Close()
	info, err := f.Stat()
	raw, rerr := c.SyscallConn()
	if err != nil || rerr != nil {
		return
	}
	var at int64
	head := make([]byte, 8)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		binary.BigEndian.PutUint32(head, uint32(n+4))
		if _, err := c.Write(head); err != nil {
			return
		}
		if at+int64(n) > info.Size() {
			at = 0
		}
		for end := at + int64(n); at < end; {
			var m int
			werr := raw.Write(func(out uintptr) bool {
				m, err = unix.Sendfile(int(out), int(f.Fd()), &at, int(end-at))
				return err != unix.EAGAIN
			})
			if werr != nil || err != nil || m == 0 {
				return
			}
		}
	}
}

// syncLoop appends and syncs, again and again: the disk's own latency.
func syncLoop(j job) (any, error) {
	f, err := os.Create(filepath.Join(j.Dir, "sync"))
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	b, at := make([]byte, j.Size), int64(0)
	var took []time.Duration
	begin := time.Now()
	for time.Since(begin).Seconds() < j.Seconds {
		one := time.Now()
		if _, err := f.WriteAt(b, at); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		at += int64(len(b))
		took = append(took, time.Since(one))
	}
	r := &result{Seconds: time.Since(begin).Seconds(), Bytes: at, Requests: int64(len(took))}
	r.P50, r.P99, r.P999 = percentiles(took)
	return r, nil
}

// percentiles are the 50th, 99th and 99.9th, in ms.
func percentiles(d []time.Duration) (p50, p99, p999 float64) {
	if len(d) == 0 {
		return 0, 0, 0
	}
	sort.Slice(d, func(i, k int) bool { return d[i] < d[k] })
	at := func(permille int) float64 {
		return float64(d[min(len(d)*permille/1000, len(d)-1)].Microseconds()) / 1000
	}
	return at(500), at(990), at(999)
}
