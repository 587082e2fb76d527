package nbd

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// client is as much of an NBD client as the tests need.
type client struct {
	t    *testing.T
	conn net.Conn
	size int64
}

func dial(t *testing.T, d *Disk) *client {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); ServeConn(theirs, d) }()
	t.Cleanup(func() { ours.Close(); <-done })
	c := &client{t: t, conn: ours}
	hello := c.read(18)
	if string(hello[:8]) != "NBDMAGIC" || string(hello[8:16]) != "IHAVEOPT" {
		t.Fatalf("hello: got %q", hello)
	}
	c.write(binary.BigEndian.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes))
	return c
}

func (c *client) read(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.conn, b); err != nil {
		c.t.Fatalf("read %d bytes: %v", n, err)
	}
	return b
}

func (c *client) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func option(kind uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, magicOption)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// optionReply reads one reply and returns its type and data.
func (c *client) optionReply() (uint32, []byte) {
	c.t.Helper()
	head := c.read(20)
	return binary.BigEndian.Uint32(head[12:]), c.read(int(binary.BigEndian.Uint32(head[16:])))
}

// begin asks for transmission the old way.
func (c *client) begin() *client {
	c.t.Helper()
	c.write(option(optExportName, nil))
	c.size = int64(binary.BigEndian.Uint64(c.read(10)))
	return c
}

func header(r request) []byte {
	b := binary.BigEndian.AppendUint32(nil, magicRequest)
	b = binary.BigEndian.AppendUint16(b, r.flags)
	b = binary.BigEndian.AppendUint16(b, r.kind)
	b = binary.BigEndian.AppendUint64(b, r.cookie)
	b = binary.BigEndian.AppendUint64(b, r.offset)
	return binary.BigEndian.AppendUint32(b, r.length)
}

// do sends a request and returns the errno of its reply.
func (c *client) do(r request, payload []byte) uint32 {
	c.t.Helper()
	c.write(append(header(r), payload...))
	reply := c.read(16)
	if got := binary.BigEndian.Uint64(reply[8:]); got != r.cookie {
		c.t.Fatalf("reply's cookie: got %d, want %d", got, r.cookie)
	}
	return binary.BigEndian.Uint32(reply[4:])
}

func TestNegotiation(t *testing.T) {
	d, _ := newDisk(t, Options{})
	c := dial(t, d)
	c.write(option(8, nil)) // structured replies
	if kind, _ := c.optionReply(); kind != repErrUnsup {
		t.Errorf("unknown option: got reply %#x, want %#x", kind, uint32(repErrUnsup))
	}
	c.write(option(optGo, []byte{0, 0, 0, 9, 0, 0})) // name longer than the data
	if kind, _ := c.optionReply(); kind != repErrBad {
		t.Errorf("malformed GO: got reply %#x, want %#x", kind, uint32(repErrBad))
	}
	c.write(option(optGo, []byte{0, 0, 0, 1, 'x', 0, 0}))
	kind, info := c.optionReply()
	want := exportInfo(testSectors * SectorSize)
	if kind != repInfo || !bytes.Equal(info[2:], want) {
		t.Errorf("GO: got reply %#x %x, want %#x %x", kind, info, repInfo, want)
	}
	c.optionReply() // block sizes
	if kind, _ := c.optionReply(); kind != repAck {
		t.Errorf("GO: got reply %#x, want an acknowledgement", kind)
	}
	if errno := c.do(request{kind: cmdFlush, cookie: 5}, nil); errno != 0 {
		t.Errorf("flush after GO: got errno %d, want 0", errno)
	}
}

func TestRequestsOutsideTheDisk(t *testing.T) {
	d, _ := newDisk(t, Options{})
	c := dial(t, d).begin()
	for name, r := range map[string]request{
		"read past the end":  {kind: cmdRead, offset: testSectors * SectorSize, length: SectorSize},
		"read that wraps":    {kind: cmdRead, offset: 1<<64 - SectorSize, length: 2 * SectorSize},
		"read of nothing":    {kind: cmdRead},
		"read half a sector": {kind: cmdRead, length: 100},
		"read too much":      {kind: cmdRead, length: maxPayload + SectorSize},
		"unknown command":    {kind: 99},
	} {
		if errno := c.do(r, nil); errno != errInval {
			t.Errorf("%s: got errno %d, want %d", name, errno, errInval)
		}
	}
	bad := request{kind: cmdWrite, offset: testSectors * SectorSize, length: SectorSize}
	if errno := c.do(bad, fill('x', 1)); errno != errInval {
		t.Errorf("write past the end: got errno %d, want %d", errno, errInval)
	}
	if errno := c.do(request{kind: cmdWrite, length: SectorSize}, fill('x', 1)); errno != 0 {
		t.Errorf("write after refused ones: got errno %d, want 0", errno)
	}
}

func TestCutEndsConnections(t *testing.T) {
	d, path := newDisk(t, Options{})
	c := dial(t, d).begin()
	if errno := c.do(request{kind: cmdWrite, flags: cmdFlagFUA, length: SectorSize}, fill('x', 1)); errno != 0 {
		t.Fatalf("write: got errno %d, want 0", errno)
	}
	if _, err := d.Cut(1); err != nil {
		t.Fatal(err)
	}
	c.conn.Write(header(request{kind: cmdRead, length: SectorSize}))
	if _, err := c.conn.Read(make([]byte, 1)); err == nil {
		t.Error("the disk answers after the power cut")
	}
	if got := platter(t, path)[0]; got != 'x' {
		t.Errorf("FUA write: got %q on the platter, want 'x'", got)
	}
}

// TestForeignClient has QEMU's own NBD client use the disk.
func TestForeignClient(t *testing.T) {
	for _, tool := range []string{"qemu-io", "qemu-img"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (Debian package qemu-utils)", tool)
		}
	}
	d, path := newDisk(t, Options{})
	sock := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); Serve(l, d) }()
	url := "nbd+unix:///?socket=" + sock

	out, err := exec.Command("qemu-img", "info", "--output=json", url).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img info: %v: %s", err, out)
	}
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal(out, &info); err != nil || info.Size != testSectors*SectorSize {
		t.Errorf("qemu-img info: got size %d (%v), want %d", info.Size, err, testSectors*SectorSize)
	}
	out, err = exec.Command("qemu-io", "-f", "raw",
		"-c", "write -P 0x61 0 4k", "-c", "flush", "-c", "write -P 0x62 -f 4k 512",
		"-c", "write -P 0x63 8k 1k", "-c", "read -P 0x61 0 4k", "-c", "read -P 0x63 8k 1k", url).CombinedOutput()
	if err != nil || strings.Contains(string(out), "failed") {
		t.Fatalf("qemu-io: %v: %s", err, out)
	}
	if _, err := d.Cut(3); err != nil {
		t.Fatal(err)
	}
	<-done
	want := append(bytes.Repeat([]byte{'a'}, 8), 'b')
	if diff := cmp.Diff(want, platter(t, path)[:9]); diff != "" {
		t.Errorf("flushed part of the disk (-want +got):\n%s", diff)
	}
}

// stream is a connection that reads what it was given and swallows replies.
type stream struct{ io.Reader }

func (stream) Write(p []byte) (int, error) { return len(p), nil }
func (stream) Close() error                { return nil }

func FuzzServe(f *testing.F) {
	flags := binary.BigEndian.AppendUint32(nil, flagFixedNewstyle|flagNoZeroes)
	begin := append(bytes.Clone(flags), option(optExportName, nil)...)
	write := append(header(request{kind: cmdWrite, offset: 512, length: 512}), fill('x', 1)...)
	f.Add(append(bytes.Clone(begin), write...))
	f.Add(append(bytes.Clone(begin), header(request{kind: cmdRead, length: 1024})...))
	f.Add(append(bytes.Clone(begin), append(header(request{kind: cmdFlush}), header(request{kind: cmdDisc})...)...))
	f.Add(append(bytes.Clone(flags), option(optGo, []byte{0, 0, 0, 0, 0, 0})...))
	f.Add(append(bytes.Clone(flags), option(optAbort, nil)...))
	path := filepath.Join(f.TempDir(), "disk.raw")
	f.Fuzz(func(t *testing.T, in []byte) {
		if err := writeZeros(path); err != nil {
			t.Fatal(err)
		}
		d, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		ServeConn(stream{bytes.NewReader(in)}, d)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if got := len(contents(t, path)); got != testSectors*SectorSize {
			t.Errorf("disk is %d bytes after any input, want %d", got, testSectors*SectorSize)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add(header(request{flags: 1, kind: cmdWrite, cookie: 2, offset: 3, length: 4}))
	f.Add(header(request{kind: cmdWrite, length: maxPayload + 1}))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := parseRequest(in)
		if err != nil {
			return
		}
		if got := header(r); !bytes.Equal(got, in[:requestSize]) {
			t.Errorf("request does not survive: got %x, want %x", got, in[:requestSize])
		}
		if r.valid(1<<20) && (r.offset+uint64(r.length) > 1<<20 || r.length == 0) {
			t.Errorf("request %+v counts as inside a disk of 1 MiB", r)
		}
	})
}
