package harness

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

//go:embed testdata/pom.xml
var pom []byte

//go:embed testdata/server.properties
var properties string

// Kafka is a real Apache Kafka (KRaft, one node, from its Maven artifacts) on
// this host: the centre that a box reports to.
type Kafka struct {
	HostAddr  string // bootstrap address for clients on the host
	GuestAddr string // bootstrap address for a box on QEMU's user network, or of a proxy
	// GuestListen is where clients of GuestAddr end up, on this host.
	GuestListen string

	t    testing.TB
	dir  string
	libs string
	jvm  []string // how its machine runs
	cmd  *exec.Cmd
}

// brief has a Java machine that lives for seconds spend few of them on itself.
var brief = []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}

// StartKafka starts a new, empty Kafka and stops it at the end of the test.
func StartKafka(t testing.TB) *Kafka { return StartKafkaBehind(t, "") }

// StartKafkaBehind has clients that come by a proxy's address stay with it.
func StartKafkaBehind(t testing.TB, proxy string) *Kafka {
	t.Helper()
	return StartKafkaCluster(t, proxy)[0]
}

// StartKafkaCluster starts a broker behind each of the proxies' addresses; of
// three, any two go on without the third.
func StartKafkaCluster(t testing.TB, proxies ...string) []*Kafka {
	t.Helper()
	ports := freePorts(t, 3*len(proxies))
	var voters []string
	for i := range proxies {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[3*i+2]))
	}
	id := clusterID()
	var all []*Kafka
	for i, proxy := range proxies {
		at := ports[3*i:]
		k := &Kafka{
			t: t, dir: t.TempDir(), libs: kafkaLibs(t),
			HostAddr:    fmt.Sprintf("127.0.0.1:%d", at[0]),
			GuestAddr:   cmp.Or(proxy, fmt.Sprintf("10.0.2.2:%d", at[1])),
			GuestListen: fmt.Sprintf("127.0.0.1:%d", at[1]),
		}
		k.format(id, map[string]any{
			"Node": i + 1, "Voters": strings.Join(voters, ","), "Replicas": len(proxies), "InSync": (len(proxies) + 1) / 2,
			"Host": at[0], "Guest": at[1], "Controller": at[2], "Dir": k.dir, "Advertise": k.GuestAddr,
		})
		if len(proxies) > 1 {
			k.jvm = brief // nobody measures a cluster on one machine
		}
		t.Cleanup(k.Stop)
		k.launch()
		all = append(all, k)
	}
	for _, k := range all {
		k.answers()
	}
	return all
}

func (k *Kafka) format(id string, values map[string]any) {
	k.t.Helper()
	var conf bytes.Buffer
	err := template.Must(template.New("").Parse(properties)).Execute(&conf, values)
	if err == nil {
		err = os.WriteFile(k.conf(), conf.Bytes(), 0o644)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	format := k.java(brief, "kafka.tools.StorageTool", "format", "-t", id, "-c", k.conf())
	if out, err := format.CombinedOutput(); err != nil {
		k.t.Fatalf("format the central Kafka's storage: %v\n%s", err, out)
	}
}

// clusterID is a new one, in the form that Kafka gives its own.
func clusterID() string {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7f // an id that starts with a hyphen would be a flag
	return base64.RawURLEncoding.EncodeToString(b)
}

func (k *Kafka) conf() string { return filepath.Join(k.dir, "server.properties") }

func (k *Kafka) java(jvm []string, class string, args ...string) *exec.Cmd {
	args = append([]string{"-Xmx512m", "-cp", filepath.Join(k.libs, "*"), class}, args...)
	cmd := exec.Command("java", slices.Concat(jvm, args)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Start starts it again after Stop, on the same data and addresses, and
// returns when it answers.
func (k *Kafka) Start() {
	k.t.Helper()
	k.launch()
	k.answers()
}

func (k *Kafka) launch() {
	k.t.Helper()
	log, err := os.OpenFile(filepath.Join(k.dir, "kafka.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		k.t.Fatal(err)
	}
	defer log.Close()
	k.cmd = k.java(k.jvm, "kafka.Kafka", k.conf())
	k.cmd.Stdout, k.cmd.Stderr = log, log
	if err := k.cmd.Start(); err != nil {
		k.t.Fatalf("start the central Kafka: %v", err)
	}
}

func (k *Kafka) answers() {
	k.t.Helper()
	client := k.Client()
	defer client.Close()
	Eventually(k.t, time.Minute, "the central Kafka answers", func(ctx context.Context) error {
		return client.Ping(ctx)
	})
}

// Kill ends it as a crash does. Its data stays.
func (k *Kafka) Kill() {
	if k.cmd != nil {
		k.cmd.Process.Kill()
		k.cmd.Wait()
		k.cmd = nil
	}
}

// Stop stops it and returns when the process is gone. Its data stays.
func (k *Kafka) Stop() {
	if k.cmd == nil {
		return
	}
	k.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(20*time.Second, func() { k.cmd.Process.Kill() })
	defer kill.Stop()
	k.cmd.Wait()
	k.cmd = nil
}

// PID is its process.
func (k *Kafka) PID() int { return k.cmd.Process.Pid }

// Dir is the folder of its data.
func (k *Kafka) Dir() string { return k.dir }

// Client is a client for this Kafka.
func (k *Kafka) Client(opts ...kgo.Opt) *kgo.Client { return Client(k.t, k.HostAddr, opts...) }

// Client is a franz-go client of the broker at addr; the caller closes it.
func Client(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func kafkaLibs(t testing.TB) string { return Jars(t, "central-kafka-4.3.1", pom) }

// Jars returns the folder with what a project of Maven depends on at run
// time, fetched once. The name holds its versions.
func Jars(t testing.TB, name string, pom []byte) string {
	t.Helper()
	libs := filepath.Join(CacheDir(t), name)
	if _, err := os.Stat(libs); err == nil {
		return libs
	}
	work, err := os.MkdirTemp(mkdir(t, filepath.Dir(libs)), "fetch-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "pom.xml"), pom, 0o644); err != nil {
		t.Fatal(err)
	}
	mvn := exec.Command("mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
		"-DoutputDirectory=lib", "-DincludeScope=runtime")
	mvn.Dir = work
	if out, err := mvn.CombinedOutput(); err != nil {
		t.Fatalf("fetch %s by Maven: %v\n%s", name, err, out)
	}
	if err := os.Rename(filepath.Join(work, "lib"), libs); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return libs
}

func mkdir(t testing.TB, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Count is the number of records that a topic's partitions hold together.
func (k *Kafka) Count(ctx context.Context, topic string) (int64, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.HostAddr))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	var n int64
	ends.Each(func(o kadm.ListedOffset) {
		n += o.Offset
		err = errors.Join(err, o.Err)
	})
	return n, err
}
