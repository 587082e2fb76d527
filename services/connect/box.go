package connect

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
	"github.com/waysideos/wayside/services/secret"
	"github.com/waysideos/wayside/services/site"
)

// Box is what the frame gives one connector. Its methods may be called by
// many goroutines.
type Box struct {
	cfg      *Config
	name     string
	protocol string
	log      *slog.Logger
	records  site.Records
	headers  []string // names of records.Headers, sorted
	commands *site.Commands
	spool    int64 // bytes
	state    state
	budget   *budget // of Post and Send
	back     backend
	queue    *queue
	aside    aside
	deadMost atomic.Int64 // bytes of an original that the topic of dead letters takes
	reports  reporter
	maxAge   time.Duration

	incoming chan Command

	mu   sync.Mutex
	over chan struct{} // closed when the call of Run under way has ended
}

// Name is the connector's name in the profile.
func (b *Box) Name() string { return b.name }

// Site is the box's name.
func (b *Box) Site() string { return b.cfg.Site }

// Log is for what no status can say. Never log a secret or a device's payload.
func (b *Box) Log() *slog.Logger { return b.log }

// Up says that the device answers. It clears the last error; the next pause
// before Run is called again is short.
func (b *Box) Up(detail string) { b.state.up(detail) }

// Trouble says that the device answers badly; Run goes on. Up ends it.
func (b *Box) Trouble(err error) { b.state.trouble(b.log, err) }

// Readings makes records of readings that are worth one, and spools them.
func (b *Box) Readings(rs ...Reading) error {
	return b.readings(b.reports.take(rs, b.cfg.now()))
}

func (b *Box) readings(rs []Reading) error {
	var failed error
	for _, r := range rs {
		rec, err := b.encode(r)
		if err != nil {
			b.Dead(err.Error(), []byte(fmt.Sprint(r.Value)), r.Address)
			continue
		}
		if err := b.Spool(rec); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// Spool takes a record of a device that cannot wait: it never waits for the
// broker. Records stay in order. They are in memory for about a second, then
// in a bounded file; when that is full the oldest go, counted and told. The
// error is of a record that can never be one; it is among the dead letters.
func (b *Box) Spool(r Record) error {
	rec := b.finish(r)
	if err := tooLarge(rec); err != nil {
		b.Dead(err.Error(), rec.Value, string(rec.Key))
		return err
	}
	b.queue.put(rec)
	return nil
}

// Post sends a record and calls done when the broker has it on disk: only
// then acknowledge to the device. It blocks while too much of this connector
// waits: hold the device back. done is called exactly once, from another
// goroutine, and must not block; its error is ctx's or says that the
// connector ends. What the broker refuses for good is a dead letter and no
// error; a dead letter that it refuses is kept aside.
func (b *Box) Post(ctx context.Context, r Record, done func(error)) {
	rec := b.finish(r)
	n := size(rec)
	if err := b.budget.take(ctx, n); err != nil {
		done(err)
		return
	}
	// The client keeps what it cannot withdraw any more, and its memory counts,
	// also when nobody waits for it.
	told := once(done)
	detach := context.AfterFunc(ctx, func() { told(ctx.Err()) })
	finish := func(err error) {
		b.budget.give(n)
		detach()
		told(err)
	}
	dead := func(why error) {
		b.state.count(0, 0, 1)
		letter := b.deadLetter(why.Error(), rec.Value, string(rec.Key))
		b.bury(ctx, letter, func(err error) {
			if permanent(err) {
				b.aside.later(refusal{err, letter, finish})
				return
			}
			finish(err)
		})
	}
	if err := tooLarge(rec); err != nil {
		dead(err)
		return
	}
	b.back.produce(ctx, rec, func(err error) {
		if permanent(err) {
			dead(err)
			return
		}
		if err == nil {
			b.state.count(1, int64(len(rec.Value)), 0)
		}
		finish(err)
	})
}

// once makes only the first call count.
func once(done func(error)) func(error) {
	var o sync.Once
	return func(err error) { o.Do(func() { done(err) }) }
}

// Template fills a record's topic and key from templates other than those of
// records.
func (b *Box) Template(topic, key string, r Record) Record {
	r.Topic = topicName(b.expand(topic, r.Values))
	if key != "" {
		r.Key = []byte(b.expand(key, r.Values))
	}
	return r
}

// Send returns when the broker has all of the records on disk.
func (b *Box) Send(ctx context.Context, rs ...Record) error {
	errs := make(chan error, len(rs))
	for _, r := range rs {
		b.Post(ctx, r, func(err error) { errs <- err })
	}
	var failed error
	for range rs {
		if err := <-errs; err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// Dead makes a dead letter of bytes that cannot be a record, or that the
// broker refuses: why, what came, and from where. It is spooled.
func (b *Box) Dead(reason string, original []byte, source string) {
	b.state.count(0, 0, 1)
	b.queue.put(b.deadLetter(reason, original, source))
}

// Position is what Commit was last given, nil before the first.
func (b *Box) Position(ctx context.Context) ([]byte, error) { return b.back.position(ctx) }

// Commands are those of the profile's command topic, in order, each after the
// one before was answered; nil where the profile asks for none. A command
// whose id was answered before is answered from memory. At least once: what
// was not answered when the box stopped comes again.
func (b *Box) Commands() <-chan Command { return b.incoming }

// SecretPath is where a file lies that the profile names.
func (b *Box) SecretPath(name string) string { return secret.Path(b.cfg.Secrets, name) }

// Trial says that records go to a screen: nothing may be changed at the device.
func (b *Box) Trial() bool {
	_, trial := b.back.(*screen)
	return trial
}

// Secret reads what is in a file that the profile names, without the line end
// that editors leave. Read it when it is needed: it may change.
func (b *Box) Secret(name string) (string, error) {
	return secret.Read(b.cfg.Secrets, name)
}

// Listen is net.Listen for TCP; it takes the supervisor's socket of that
// address where there is one. Close it before Run returns.
func (b *Box) Listen(address string) (net.Listener, error) {
	if b.cfg.Listen != nil {
		return b.cfg.Listen(address)
	}
	return net.Listen("tcp", address)
}

// ListenPacket is net.ListenPacket for UDP; it takes the supervisor's socket
// of that address where there is one. Close it before Run returns.
func (b *Box) ListenPacket(address string) (net.PacketConn, error) {
	if b.cfg.ListenPacket != nil {
		return b.cfg.ListenPacket(address)
	}
	return net.ListenPacket("udp", address)
}

// Client is a client of the box's broker, for protocols that need more of it
// than records. What it unpacks counts with what all sinks unpack; who reads
// with it asks Poll. It is the caller's to close before Run returns.
func (b *Box) Client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kafka.NewClient(b.client(), append([]kgo.Opt{kgo.WithDecompressor(b.cfg.room.Reader())}, opts...)...)
}

// Poll is PollRecords of a client of Client. It goes on behind batches that are
// too large to be unpacked.
func (b *Box) Poll(ctx context.Context, cl *kgo.Client, most int) kgo.Fetches {
	fetched := cl.PollRecords(ctx, most)
	fetched.EachError(func(_ string, _ int32, err error) { _ = b.unread(cl, err) })
	return fetched
}

// Producer is a Client for protocols that tell their peers where a record is.
// It is the caller's to close before Run returns.
func (b *Box) Producer(opts ...kgo.Opt) (*Producer, error) { return newProducer(b.client(), opts...) }

func (b *Box) client() kafka.Config {
	return kafka.Config{Bootstrap: b.cfg.Broker, ClientID: "wayside-connect-" + b.name, Log: b.cfg.Log}
}

// Count adds records that a connector wrote through a Client or Producer.
func (b *Box) Count(records int, bytes int64) { b.state.count(int64(records), bytes, 0) }
