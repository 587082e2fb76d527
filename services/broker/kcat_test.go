package broker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/vfs"
)

// TestKcat is librdkafka's word on the protocol.
func TestKcat(t *testing.T) {
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Skip("kcat is not installed (apt install kcat)")
	}
	dir := t.TempDir()
	b := start(t, vfs.OS(dir))
	kcat := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(within(t), "kcat", append([]string{"-b", b.addr}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kcat %s: %v\n%s", strings.Join(args, " "), err, errs.String())
		}
		return string(out)
	}
	kcat("k1:v1\nk2:v2\nk3:v3\n", "-P", "-t", "t", "-K", ":", "-H", "a=b", "-X", "enable.idempotence=true")
	if got := kcat("", "-L"); !strings.Contains(got, `topic "t" with 1 partitions`) || !strings.Contains(got, "broker 1 at "+b.addr) {
		t.Errorf("kcat -L:\n%s", got)
	}
	want := "0 k1=v1 a=b\n1 k2=v2 a=b\n2 k3=v3 a=b\n"
	if got := kcat("", "-C", "-t", "t", "-e", "-q", "-f", `%o %k=%s %h\n`); got != want {
		t.Errorf("kcat -C: got\n%swant\n%s", got, want)
	}
	if got := kcat("", "-G", "g", "-c", "3", "-q", "-f", `%o %k=%s %h\n`, "-X", "auto.offset.reset=earliest", "t"); got != want {
		t.Errorf("kcat -G: got\n%swant\n%s", got, want)
	}
	kcat("v4\n", "-P", "-t", "t")
	if got := kcat("", "-G", "g", "-c", "1", "-q", "-f", `%o\n`, "t"); got != "3\n" {
		t.Errorf("kcat -G goes on at %q, want 3", got)
	}
	if got := kcat("", "-Q", "-t", "t:0:-1"); !strings.Contains(got, "offset 4") {
		t.Errorf("kcat -Q: %s", got)
	}
	for _, codec := range []string{"gzip", "snappy", "lz4", "zstd"} {
		kcat(strings.Repeat("x", 20000)+"\n", "-P", "-t", codec, "-z", codec)
		if got := kcat("", "-C", "-t", codec, "-e", "-q"); len(got) != 20001 {
			t.Errorf("%s: %d bytes came back", codec, len(got))
		}
		if n := dirBytes(t, dir, codec); n > 5000 {
			t.Errorf("%s: 20000 equal bytes take %d bytes on disk: librdkafka did not compress", codec, n)
		}
	}
}

func endOffset(t *testing.T, cl *kgo.Client, topic string) int64 {
	t.Helper()
	offs, err := kadm.NewClient(cl).ListEndOffsets(within(t), topic)
	must(t, err)
	o, _ := offs.Lookup(topic, 0)
	must(t, o.Err)
	return o.Offset
}

// dirBytes is the size of a topic's first segment.
func dirBytes(t *testing.T, dir, topic string) int64 {
	t.Helper()
	st, err := os.Stat(filepath.Join(dir, "topics", topic+"-0", "00000000000000000000.log"))
	must(t, err)
	return st.Size()
}
