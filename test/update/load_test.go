package update

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/test/harness"
)

const (
	loadTopic = "load"
	loadGroup = "load-reader"
	token     = "a token of enough letters"
)

var (
	cuts     = flag.Int("cuts", 60, "moments at which the power of the recorded update is cut")
	chances  = flag.Int("cut-chances", 2, "what becomes of un-flushed sectors, how often at each of them")
	cutBoots = flag.Int("cut-boots", 1, "how many of them are booted in QEMU, besides in the model")
)

// TestUpdatesUnderLoad has one box go through all that needs no further power
// cycle of its own. Its hardware clock says 1970. It is shown bad sources; it
// takes two releases, one after the other, from a plain web server, told by
// `wayside box update`, while a producer with acks=all and a consumer group go
// on; a third, which a fault strikes, falls back. Nothing acknowledged is lost,
// nothing is there twice, and the pause is measured. Then the power is cut at
// the writes of the first update.
func TestUpdatesUnderLoad(t *testing.T) {
	harness.NeedVM(t)
	one, two, three, four := build(t, "0.1.0", 10), build(t, "0.2.0", 20), build(t, "0.3.0", 30), build(t, "0.4.0", 40)
	u := newUpdates(t, one)
	r := record(t, u.machine)
	f := early[rand.New(rand.NewPCG(*seed, 5)).IntN(len(early))]
	u.start(f.items("0.4.0"), longAgo, func(c *qemu.Config) { c.WriteLog = r.log })
	u.runs("0.1.0")
	u.publish(two, "--boot-loader")
	u.badSources(u.site, u.repo)

	load := startLoad(t, u.Addr("kafka"))
	r.from = r.count()
	u.site.as("", rangeless)
	u.take("0.2.0")
	r.to = r.count()
	u.site.as("", nil)
	u.publish(three)
	if fetched := u.take("0.3.0"); fetched > 2e6 {
		t.Errorf("%d bytes were fetched for a version that differs by little: what the running slot holds was not used", fetched)
	}
	t.Logf("downtime of two updates, each from the last acknowledgement before to the first after: at most %.1f s", load.lap().Seconds())
	u.publish(four)
	u.fails("0.4.0", "0.3.0", f)
	load.finish()
	u.PowerOff()
	u.check()
	for _, name := range bootLoader(t) {
		if !bytes.Equal(harness.ReadBootPartition(t, u.disk, name), harness.ReadBootPartition(t, two.Path, name)) {
			t.Errorf("%s is not that of the release that was to renew it", name)
		}
	}
	r.open(one, two)
	r.check(u, *cuts, *cutBoots)
}

// bootLoader are its programs on the boot partition.
func bootLoader(t *testing.T) []string {
	arch := harness.Arch(t)
	return []string{layout.BootManager(arch), layout.ESPLoader + "/" + layout.LoaderFile(arch)}
}

// longAgo is a machine without a battery.
func longAgo(c *qemu.Config) { c.Extra = append(c.Extra, "-rtc", "base=1970-01-01T00:00:00") }

// updates is a box that updates from a repository.
type updates struct {
	*machine
	t     *testing.T
	site  *webSite
	repo  string
	token string
}

// newUpdates is a box of an old version that is off, and knows where updates
// come from.
func newUpdates(t *testing.T, old *built) *updates {
	t.Helper()
	repo := t.TempDir()
	u := &updates{t: t, machine: first(t, old), site: serve(t, repo), repo: repo, token: filepath.Join(t.TempDir(), "api.token")}
	if err := os.WriteFile(u.token, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	u.configure(u.server(), 4)
	harness.PutOnBootPartition(t, u.disk, layout.ESPSecrets+"/api.token", []byte(token))
	for _, name := range bootLoader(t) { // one that a release may renew
		old := append(harness.ReadBootPartition(t, u.disk, name), "of before"...)
		harness.PutOnBootPartition(t, u.disk, name, old)
	}
	return u
}

// server is the repository's web server as a box sees it: 10.0.2.2 is the host
// on QEMU's user network.
func (u *updates) server() string { return "http://" + fromBox(u.t, u.site.Listener.Addr().String()) }

// fromBox is where a box reaches what listens on this host.
func fromBox(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return "10.0.2.2:" + port
}

// configure writes the profile of a box that is off.
func (u *updates) configure(source string, trialMinutes int) {
	u.t.Helper()
	profile := fmt.Sprintf("version: 1\nsite: load\nbroker:\n  topics: [{name: %s}]\nupdate:\n  sources: [%q]\n  auto: \"off\"\n  settle_seconds: 5\n  trial_minutes: %d\n", loadTopic, source, trialMinutes)
	harness.PutOnBootPartition(u.t, u.disk, layout.ESPSite, []byte(profile))
}

func (u *updates) publish(r *built, more ...string) {
	u.t.Helper()
	args := append([]string{"publish", "--keys", keyDir(u.t), "--repo", u.repo, r.Path}, more...)
	if out, err := harness.Command(u.t, args...).CombinedOutput(); err != nil {
		u.t.Fatalf("publish %s: %v\n%s", r.activate.Version, err, out)
	}
}

// verb is `wayside box update VERB`.
func (u *updates) verb(verb string) {
	u.t.Helper()
	out, err := harness.Command(u.t, "box", "update", verb, "--box", "http://"+u.Addr("console"), "--token-file", u.token).CombinedOutput()
	if err != nil {
		u.t.Fatalf("wayside box update %s: %v\n%s", verb, err, out)
	}
}

// state is what the box says of its updates.
func (u *updates) state() (s manifest.Update, err error) {
	out, err := harness.Command(u.t, "box", "update", "status", "--json", "--box", "http://"+u.Addr("console")).Output()
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// take has the box go to a version and waits until it is kept; it returns what
// the box had fetched since its start when the version was prepared, in bytes.
func (u *updates) take(version string) (fetched int64) {
	u.t.Helper()
	begin := time.Now()
	u.verb("refresh")
	u.verb("prepare")
	s, err := u.state()
	if err != nil {
		u.t.Fatal(err)
	}
	before := s.Last
	fetched = s.Fetched
	u.t.Logf("%s prepared in %.0f s, %.1f MB fetched", version, time.Since(begin).Seconds(), float64(fetched)/1e6)
	u.verb("activate")
	u.verb("reboot")
	u.Eventually(2*harness.BootTime, version+" is kept", func(context.Context) error {
		s, err := u.state()
		last := fresh(s, before, version)
		switch {
		case err != nil:
			return err
		case last == nil:
			return fmt.Errorf("runs %s, phase %s", s.Running, s.Phase)
		case !last.Committed:
			u.t.Fatalf("%s failed its trial: %+v", version, last)
		}
		return nil
	})
	return fetched
}

// fresh is how the trial of a version ended, nil while that is still the word
// of before.
func fresh(s manifest.Update, before *manifest.Outcome, version string) *manifest.Outcome {
	if s.Last == nil || s.Last.Version != version || before != nil && s.Last.Time.Equal(before.Time) {
		return nil
	}
	return s.Last
}

// load is a producer and a consumer group that do not know of updates.
type load struct {
	t        *testing.T
	addr     string
	producer *kgo.Client
	consumer *kgo.Client
	stop     context.CancelFunc
	done     sync.WaitGroup

	mu     sync.Mutex
	acked  int           // records, numbered from 0
	failed error         // of the producer
	pause  time.Duration // longest between two acknowledgements
	read   map[int]int   // how often the group was given each number
}

func startLoad(t *testing.T, addr string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, addr: addr, stop: cancel, read: map[int]int{}}
	l.producer = harness.Client(t, addr, kgo.DefaultProduceTopic(loadTopic), kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(20*time.Minute))
	l.consumer = harness.Client(t, addr, kgo.ConsumeTopics(loadTopic), kgo.ConsumerGroup(loadGroup), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	l.done.Go(func() { l.produce(ctx) })
	l.done.Go(func() { l.consume(ctx) })
	return l
}

// produce sends one number after the other, each when the last is acknowledged.
func (l *load) produce(ctx context.Context) {
	last := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		err := l.producer.ProduceSync(context.WithoutCancel(ctx), kgo.StringRecord(strconv.Itoa(n))).FirstErr()
		l.mu.Lock()
		if err != nil {
			l.failed = fmt.Errorf("record %d: %w", n, err)
			l.mu.Unlock()
			return
		}
		l.acked = n + 1
		l.pause = max(l.pause, time.Since(last))
		last = time.Now()
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (l *load) consume(ctx context.Context) {
	for {
		fetches := l.consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			n, _ := strconv.Atoi(string(r.Value))
			l.read[n]++
		})
		l.mu.Unlock()
		_ = l.consumer.CommitUncommittedOffsets(ctx) // while the box is away it cannot: then it is given some again
	}
}

// lap is the longest pause so far, and begins anew.
func (l *load) lap() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	pause := l.pause
	l.pause = 0
	return pause
}

// finish ends the load and compares what was acknowledged with what is there.
func (l *load) finish() {
	l.t.Helper()
	harness.Eventually(l.t, time.Minute, "the group has read all", func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.failed != nil {
			l.t.Fatal(l.failed)
		}
		if len(l.read) < l.acked-1 {
			return fmt.Errorf("%d of %d", len(l.read), l.acked)
		}
		return nil
	})
	l.stop()
	l.done.Wait()
	l.producer.Close()
	l.consumer.Close()
	stored := l.stored()
	for n := range l.acked {
		if stored[n] != 1 {
			l.t.Errorf("record %d is there %d times", n, stored[n])
		}
	}
	again := 0
	for _, times := range l.read {
		again += times - 1
	}
	l.t.Logf("%d records acknowledged; the longest pause of the update that failed was %.1f s; the group was given %d again", l.acked, l.pause.Seconds(), again)
}

// stored is how often each number is in the log.
func (l *load) stored() map[int]int {
	l.t.Helper()
	client := harness.Client(l.t, l.addr, kgo.ConsumeTopics(loadTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, loadTopic)
	if err != nil {
		l.t.Fatal(err)
	}
	end, _ := ends.Lookup(loadTopic, 0)
	out := map[int]int{}
	for at := int64(0); at < end.Offset; {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			l.t.Fatalf("read the log: %v", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n, _ := strconv.Atoi(string(r.Value))
			out[n]++
			at = r.Offset + 1
		})
	}
	return out
}
