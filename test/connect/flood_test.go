package connect

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/test/harness"
)

var floodFor = flag.Duration("flood", 2*time.Second, "how long TestFlood offers ten times what the box can take")

// flood is one protocol whose devices push.
type flood struct {
	name    string
	dial    dialer
	clients int
	// whole: all that was sent arrives, though nothing acknowledges it: the
	// sender is held back.
	whole bool

	addr              string
	capacity, offered float64 // messages a second

	next, sent atomic.Int64
	mu         sync.Mutex
	acked      map[int]bool // and what has to arrive otherwise
	there      map[int]bool // in the broker
	hurt       error        // of the last client that gave up
}

const (
	floodPayload = 4 << 10
	floodSpool   = 8 // MB, of each
	floodTimes   = 10
	// The broker is slow: it runs so long in each period.
	brokerRuns   = 10 * time.Millisecond
	brokerPeriod = 250 * time.Millisecond
)

// TestFlood: the box's broker is slow, and all protocols that push are offered
// ten times of what they can have stored, at once. The services stay within
// the memory of their units, spools within theirs, and nothing that was
// acknowledged, or held back, is lost.
func TestFlood(t *testing.T) {
	need(t)
	kafka := edge(t)
	floods := []*flood{
		{name: "http", dial: httpPosts, clients: 200},
		{name: "syslog-tcp", dial: syslogTCP, clients: 20, whole: true},
		{name: "syslog-udp", dial: syslogUDP, clients: 2},
		{name: "traps", dial: snmpTraps, clients: 2},
		{name: "qos1", dial: mqttPublisher(1), clients: 40},
		{name: "qos0", dial: mqttPublisher(0), clients: 20},
	}
	data := t.TempDir()
	connect, mqtt := floodedBox(t, kafka, data, floods)
	slow, memory := slowly(t, kafka), watchMemory(t, connect, mqtt)
	read := follow(t, kafka.addr, floods)
	all := func(d time.Duration, pace func(*flood) rate.Limit) {
		var wg sync.WaitGroup
		for _, f := range floods {
			wg.Go(func() { f.offer(d, pace(f)) })
		}
		wg.Wait()
	}
	began := time.Now()
	all(time.Second, func(*flood) rate.Limit { return rate.Inf })
	t.Logf("measured after %s", time.Since(began))
	for _, f := range floods {
		f.mu.Lock()
		f.capacity = float64(len(f.there))
		f.mu.Unlock()
		f.offered = max(floodTimes*f.capacity, 1000)
	}
	over := time.AfterFunc(*floodFor, slow) // what waits for an answer gets one
	defer over.Stop()
	all(*floodFor, func(f *flood) rate.Limit { return rate.Limit(f.offered) })
	t.Logf("flooded after %s", time.Since(began))
	for i, anon := range memory() {
		name := []string{"connect", "mqtt"}[i]
		bound := unitSetting(t, name, "MemoryMax=") << 20
		t.Logf("%s: at most %d MB of %d", name, anon>>20, bound>>20)
		if anon > bound {
			t.Errorf("%s had %d MB of memory, its unit allows %d", name, anon>>20, bound>>20)
		}
	}
	if size := sizeOf(t, data); size > int64(len(floods))*floodSpool*1.5e6 {
		t.Errorf("spools are %d bytes", size)
	}
	for _, f := range floods {
		f.settle(t)
	}
	read()
	t.Logf("settled after %s", time.Since(began))
}

// floodedBox starts the services with the memory that their units have.
func floodedBox(t *testing.T, kafka *process, data string, floods []*flood) (connect, mqtt *process) {
	t.Helper()
	addr := map[string]string{}
	for _, f := range floods {
		if f.addr = connecttest.FreeAddress(t); f.name == "syslog-udp" || f.name == "traps" {
			f.addr = freeDatagrams(t)
		}
		addr[f.name] = f.addr
	}
	records := fmt.Sprintf("records: {topic: \"{connector}\", spool: %dMB}", floodSpool)
	site := profile(t, fmt.Sprintf(`
connect:
  mqtt:
    listen: %q
    routes: [{filter: values/0/#, topic: qos0}, {filter: values/1/#, topic: qos1}]
  http: [{name: http, listen: %q, rate: 1000000, posts: [{path: /values, topic: "{connector}"}]}]
  syslog:
    - {name: syslog-tcp, listen: %q, transport: tcp, %[6]s}
    - {name: syslog-udp, listen: %[4]q, %[6]s}
  snmp_traps: [{name: traps, listen: %[5]q, %[6]s}]
`, addr["qos1"], addr["http"], addr["syslog-tcp"], addr["syslog-udp"], addr["traps"], records))
	run := func(name string, args ...string) *process {
		t.Setenv("GOMEMLIMIT", fmt.Sprintf("%dMiB", unitSetting(t, name, "Environment=GOMEMLIMIT=")))
		return start(t, harness.Waysided(t), append(append([]string{name}, args...), "--site", site, "--broker", kafka.addr, "--run-dir", t.TempDir())...)
	}
	connect = run("connect", "--data", data, "--secrets", t.TempDir())
	mqtt = run("mqtt")
	for _, f := range floods {
		if f.name == "qos0" {
			f.addr = addr["qos1"]
		}
		until(t, f.name+" to listen", func() bool { return takesDatagrams(t, f.addr) || dials(f.addr) })
	}
	return connect, mqtt
}

// unitSetting is a number of megabytes in the unit of a service.
func unitSetting(t testing.TB, service, key string) int64 {
	t.Helper()
	file := "../../overlays/base/rootfs/usr/lib/wayside/units/" + service + ".service"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok {
			n, err := strconv.ParseInt(strings.TrimRight(v, "MiB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %s", file, key)
	return 0
}

// slowly has a process run only part of the time until the function that it
// returns is called.
func slowly(t *testing.T, p *process) (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			_ = p.cmd.Process.Signal(syscall.SIGSTOP)
			select {
			case <-time.After(brokerPeriod - brokerRuns):
			case <-stop:
				_ = p.cmd.Process.Signal(syscall.SIGCONT)
				return
			}
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
			time.Sleep(brokerRuns)
		}
	}()
	end = sync.OnceFunc(func() { close(stop); <-ended })
	t.Cleanup(end)
	return end
}

// watchMemory returns the most that each process has had of its own.
func watchMemory(t *testing.T, ps ...*process) (end func() []int64) {
	stop, ended, most := make(chan struct{}), make(chan struct{}), make([]int64, len(ps))
	go func() {
		defer close(ended)
		for {
			for i, p := range ps {
				most[i] = max(most[i], usageOf(t, p.cmd.Process.Pid).anon)
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-stop:
				return
			}
		}
	}()
	once := sync.OnceFunc(func() { close(stop); <-ended })
	t.Cleanup(once)
	return func() []int64 { once(); return most }
}

// offer has the clients send at a pace, as far as they are let.
func (f *flood) offer(d time.Duration, pace rate.Limit) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	limit := rate.NewLimiter(pace, 100)
	var wg sync.WaitGroup
	for id := range f.clients {
		wg.Go(func() {
			if err := f.client(ctx, id, limit); err != nil {
				f.mu.Lock()
				f.hurt = err
				f.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func (f *flood) client(ctx context.Context, id int, limit *rate.Limiter) error {
	c, err := f.dial(f.addr, id, floodPayload, func(n int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.acked[n] = true
	})
	if err != nil {
		return err
	}
	defer c.Close()
	for limit.Wait(ctx) == nil && ctx.Err() == nil {
		n := int(f.next.Add(1))
		if err := c.send(n); err != nil {
			return err
		}
		f.sent.Add(1)
		if f.whole {
			f.mu.Lock()
			f.acked[n] = true
			f.mu.Unlock()
		}
	}
	return nil
}

// follow reads the topics until the function that it returns is called.
func follow(t *testing.T, broker string, floods []*flood) (end func()) {
	t.Helper()
	byTopic, topics := map[string]*flood{}, []string{}
	for _, f := range floods {
		f.acked, f.there = map[int]bool{}, map[int]bool{}
		byTopic[f.name], topics = f, append(topics, f.name)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topics...), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				f := byTopic[r.Topic]
				f.mu.Lock()
				f.there[number(r.Value)] = true
				f.mu.Unlock()
			})
		}
	}()
	end = sync.OnceFunc(func() { cancel(); <-ended; cl.Close() })
	t.Cleanup(end)
	return end
}

// settle waits until all is in the broker that has to be, as long as more comes.
func (f *flood) settle(t *testing.T) {
	t.Helper()
	missing := func() (n int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for a := range f.acked {
			if !f.there[a] {
				n++
			}
		}
		return n
	}
	lost := missing()
	for end := time.Now().Add(most / 2); lost > 0 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if n := missing(); n < lost {
			lost, end = n, time.Now().Add(most/2)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Logf("%-10s could store %5.0f/s, was offered %6.0f/s; of %6d sent %6d were acknowledged or held back, %6d are stored, of these %d lost (%v)",
		f.name, f.capacity, f.offered, f.sent.Load(), len(f.acked), len(f.there), lost, f.hurt)
	if lost > 0 {
		t.Errorf("%s: %d messages are lost that were acknowledged, or held back", f.name, lost)
	}
	if len(f.there) == 0 {
		t.Errorf("%s: nothing was stored", f.name)
	}
}

func sizeOf(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it was sent meanwhile
		}
		if fi, err := d.Info(); err == nil && !d.IsDir() {
			n += fi.Size()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
