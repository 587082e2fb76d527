package replicator

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/site"
)

// told waits until the first link's status has words in one of its notes.
func told(t *testing.T, r *Replicator, words string) {
	t.Helper()
	eventually(t, "the status says: "+words, func() bool { return strings.Contains(fmt.Sprint(r.Status().Facts), words) })
}

// copyDir replaces folder to by a copy of from.
func copyDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// A topic that is deleted and made again at the source, while the link runs
// and while it does not, is carried from its start, and that is told.
func TestTopicMadeAnewAtTheSource(t *testing.T) {
	for _, running := range []bool{true, false} {
		t.Run(fmt.Sprint("running ", running), func(t *testing.T) {
			t.Parallel()
			src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
			write(t, client(t, src.ListenAddrs()), "sensors", 1, 0, 10)
			r, stop := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
			read(t, dst.ListenAddrs(), "sensors", 10)
			if !running {
				stop()
			}
			adm := kadm.NewClient(client(t, src.ListenAddrs()))
			if _, err := adm.DeleteTopic(t.Context(), "sensors"); err != nil {
				t.Fatal(err)
			}
			if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, "sensors"); err != nil {
				t.Fatal(err)
			}
			write(t, client(t, src.ListenAddrs()), "sensors", 1, 10, 15)
			if !running {
				r, _ = start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
			}
			if again := check(t, read(t, dst.ListenAddrs(), "sensors", 15), 1, 15); again != 0 {
				t.Errorf("%d duplicates", again)
			}
			told(t, r, "the topic was made anew at the source")
		})
	}
}

// putBack has 100 records of a source carried, and then the source put back to
// what its disk was after 50 of them. The leader epoch is raised for the rest of
// what is carried, or else for what comes back.
func putBack(t *testing.T, carriedIsLater bool) (src, dst *kfake.Cluster) {
	t.Helper()
	dir, old := t.TempDir(), t.TempDir()
	id := kfake.ClusterID("box")
	src, dst = cluster(t, kfake.DataDir(dir), id, kfake.SeedTopics(1, "sensors")), cluster(t)
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 0, 50)
	src.Close()
	copyDir(t, old, dir)
	src = cluster(t, kfake.DataDir(dir), id)
	raise := func() {
		t.Helper()
		if err := src.MoveTopicPartition("sensors", 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if carriedIsLater {
		raise()
	}
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 50, 100)
	_, stop := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	read(t, dst.ListenAddrs(), "sensors", 100)
	stop()
	src.Close()

	copyDir(t, dir, old)
	src = cluster(t, kfake.DataDir(dir), id)
	if !carriedIsLater {
		raise()
	}
	return src, dst
}

// The source is put back to an older state of itself, under a new leader epoch
// as after an unclean election: what is written then is carried, nothing that
// was carried before comes again.
func TestSourceSetBack(t *testing.T) {
	t.Parallel()
	src, dst := putBack(t, false)
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 100, 110) // at offset 50
	r, _ := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	told(t, r, "the source was set back")
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 110, 115)
	got := read(t, dst.ListenAddrs(), "sensors", 115)
	if again := check(t, got, 1, 115); again != 0 {
		t.Errorf("%d duplicates", again)
	}
}

// An old copy of the source's disk whose leader epoch is below the one that was
// carried, since it was started without the time: it has grown past our position
// with other records. All of them are carried, and some again.
func TestSourceIsAnOldCopy(t *testing.T) {
	t.Parallel()
	src, dst := putBack(t, true)
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 100, 160) // from offset 50 on
	r, _ := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	told(t, r, "the source is another log")
	if again := check(t, read(t, dst.ListenAddrs(), "sensors", 160), 1, 160); again != 50 {
		t.Errorf("%d records twice, want the 50 that both have", again)
	}
}

// A broker that does not know yet that another leads is no old copy: nothing is
// carried again.
func TestAnOldLeaderIsNoOldCopy(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "sensors")), cluster(t)
	for to := range int32(3) { // each raises the epoch
		if err := src.MoveTopicPartition("sensors", 0, to); err != nil {
			t.Fatal(err)
		}
	}
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 0, 100)
	_, stop := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	read(t, dst.ListenAddrs(), "sensors", 100)
	stop()
	asked := make(chan struct{}, 1)
	src.ControlKey(int16(kmsg.ListOffsets), func(r kmsg.Request) (kmsg.Response, error, bool) {
		src.KeepControl()
		req := r.(*kmsg.ListOffsetsRequest)
		if len(req.Topics) != 1 || req.Topics[0].Topic != "sensors" {
			return nil, nil, false
		}
		p := kmsg.NewListOffsetsResponseTopicPartition()
		p.LeaderEpoch = 0
		if req.Topics[0].Partitions[0].Timestamp == -1 {
			p.Offset = 100
			select {
			case asked <- struct{}{}:
			default:
			}
		} else {
			p.Offset = 0
		}
		resp := req.ResponseKind().(*kmsg.ListOffsetsResponse)
		resp.Topics = []kmsg.ListOffsetsResponseTopic{{Topic: "sensors", Partitions: []kmsg.ListOffsetsResponseTopicPartition{p}}}
		return resp, nil, true
	})
	start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	<-asked
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 100, 110)
	if again := check(t, read(t, dst.ListenAddrs(), "sensors", 110), 1, 110); again != 0 {
		t.Errorf("%d records twice", again)
	}
}

// The centre is put back to a backup: the link goes on from what that says.
func TestDestinationSetBack(t *testing.T) {
	t.Parallel()
	dir, old := t.TempDir(), t.TempDir()
	id := kfake.ClusterID("centre")
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t, kfake.DataDir(dir), id)
	carry := func(from, to int) {
		write(t, client(t, src.ListenAddrs()), "sensors", 1, from, to)
		_, stop := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
		if again := check(t, read(t, dst.ListenAddrs(), "sensors", to), 1, to); again != 0 {
			t.Errorf("%d duplicates below %d", again, to)
		}
		stop()
	}
	carry(0, 50)
	dst.Close()
	copyDir(t, old, dir)
	dst = cluster(t, kfake.DataDir(dir), id)
	carry(50, 100)
	dst.Close()
	copyDir(t, dir, old)
	dst = cluster(t, kfake.DataDir(dir), id)
	carry(100, 120)
}

// Records that wait are deleted at the source while the link runs: the offset
// is out of range, what was lost is counted and told, the rest is carried.
func TestOffsetOutOfRange(t *testing.T) {
	t.Parallel()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t)
	cl := client(t, src.ListenAddrs())
	write(t, cl, "sensors", 1, 0, 10)
	r, _ := start(t, config(src.ListenAddrs(), dst.ListenAddrs()...))
	read(t, dst.ListenAddrs(), "sensors", 10)
	away := src.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.UnknownServerError, Count: -1})
	write(t, cl, "sensors", 1, 10, 30)
	if err := src.DeleteRecords("sensors", 0, 25); err != nil {
		t.Fatal(err)
	}
	away.Remove()
	got := read(t, dst.ListenAddrs(), "sensors", 15)
	if diff := cmp.Diff([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 25, 26, 27, 28, 29}, got[0]); diff != "" {
		t.Errorf("destination (-want +got):\n%s", diff)
	}
	told(t, r, "offsets 10 to 24 were deleted at the source before they were carried")
}

// names is a DNS server (RFC 1035) that gives every name one IPv4 address.
func names(t *testing.T, addr *atomic.Value) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12 // of the question: a name of labels, type and class
			for end < n && buf[end] != 0 {
				end += int(buf[end]) + 1
			}
			if end += 5; end > n {
				continue
			}
			out := append([]byte{buf[0], buf[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, buf[12:end]...)
			if buf[end-3] == 1 { // A
				out[7] = 1
				out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				out = append(out, addr.Load().(net.IP).To4()...)
			}
			_, _ = conn.WriteTo(out, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// The centre moves to another address, and its name with it: the next try
// finds it.
func TestCentreMoves(t *testing.T) {
	var addr atomic.Value
	addr.Store(net.IPv4(127, 0, 0, 1))
	before := net.DefaultResolver
	net.DefaultResolver = names(t, &addr)
	defer func() { net.DefaultResolver = before }()

	dir := t.TempDir()
	src, dst := cluster(t, kfake.SeedTopics(1, "sensors")), cluster(t, kfake.DataDir(dir), kfake.ClusterID("centre"))
	at := port(t, dst.ListenAddrs()[0])
	cl := client(t, src.ListenAddrs())
	write(t, cl, "sensors", 1, 0, 10)
	r, stop := start(t, config(src.ListenAddrs(), fmt.Sprintf("kafka.example.com:%d", at)))
	defer stop()
	read(t, dst.ListenAddrs(), "sensors", 10)
	dst.Close()
	write(t, cl, "sensors", 1, 10, 20)
	eventually(t, "the link is down", func() bool { return !linkOf(r).Up })

	there := func(network, address string) (net.Listener, error) {
		return net.Listen(network, strings.Replace(address, "127.0.0.1", "127.0.0.2", 1))
	}
	dst = cluster(t, kfake.DataDir(dir), kfake.ClusterID("centre"), kfake.Ports(at), kfake.ListenFn(there))
	addr.Store(net.IPv4(127, 0, 0, 2))
	if again := check(t, read(t, []string{fmt.Sprintf("127.0.0.2:%d", at)}, "sensors", 20), 1, 20); again != 0 {
		t.Errorf("%d duplicates", again)
	}
}

// certificate is one for 127.0.0.1 that ends at a time, as its own authority.
func certificate(t *testing.T, end time.Time) (pair tls.Certificate, text []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(end.UnixNano()), NotBefore: end.Add(-time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// The centre's certificate has expired: the link says so. A new one, of an
// authority that the box is given while the link runs, and it goes on.
func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	var serves atomic.Pointer[tls.Certificate]
	old, oldText := certificate(t, time.Now().Add(-time.Minute))
	serves.Store(&old)
	src := cluster(t, kfake.SeedTopics(1, "sensors"))
	dst := cluster(t, kfake.TLS(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return serves.Load(), nil }}))
	write(t, client(t, src.ListenAddrs()), "sensors", 1, 0, 10)
	cfg := config(src.ListenAddrs(), dst.ListenAddrs()...)
	cfg.Secrets = t.TempDir()
	trust := func(text []byte) {
		if err := os.WriteFile(filepath.Join(cfg.Secrets, "ca.pem"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(oldText)
	cfg.Links[0].TLS = &site.ClientTLS{CA: "ca.pem"}
	r, _ := start(t, cfg)
	eventually(t, "the link says that a certificate has expired", func() bool {
		l := linkOf(r)
		return !l.Up && strings.Contains(l.Error, "expired")
	})
	fresh, freshText := certificate(t, time.Now().Add(time.Hour))
	serves.Store(&fresh)
	trust(freshText)
	eventually(t, "the records are carried", func() bool { return carriedTo(r) == 10 && linkOf(r).Up })
}
