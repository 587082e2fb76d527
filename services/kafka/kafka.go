// Package kafka is the one place where Wayside's own Kafka clients get their
// settings: identity, time-outs, backoff and logging, for the broker on the
// same box and for one at the far end of an uplink.
package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Config names a cluster and says from where it is seen.
type Config struct {
	Bootstrap []string // host:port, at least one
	ClientID  string   // as the cluster's logs and quotas see it
	// Remote is true at the far end of an uplink: patient time-outs, long-lived
	// connections and rare metadata, since every packet may be metered.
	Remote   bool
	Security Security
	Log      *slog.Logger
}

// profile is what differs between the broker on the box and a distant one.
type profile struct {
	dial, overhead         time.Duration // to connect; to answer beyond a request's own limit
	backoffMin, backoffMax time.Duration // between tries, see Backoff
	metaMin, metaMax       time.Duration // age of cluster metadata
	idle                   time.Duration // before an unused connection is closed
	quick                  int           // tries before pauses grow
}

var (
	local = profile{
		dial: 2 * time.Second, overhead: 5 * time.Second,
		backoffMin: 50 * time.Millisecond, backoffMax: time.Second,
		metaMin: 250 * time.Millisecond, metaMax: time.Minute,
		idle: time.Minute,
	}
	// The longest backoff bounds how long a link lies idle after its uplink is
	// back. Kafka closes idle connections after ten minutes
	// (connections.max.idle.ms); closing first avoids a race with a produce.
	// A request of a megabyte takes two minutes at 64 kbit/s, and must not be
	// given up and sent again; a dead peer is noticed by the dialer's limits.
	remote = profile{
		dial: 10 * time.Second, overhead: 3 * time.Minute,
		backoffMin: 250 * time.Millisecond, backoffMax: 5 * time.Second,
		metaMin: time.Second, metaMax: 5 * time.Minute,
		idle: 5 * time.Minute,
		// A new Kafka takes seconds to make the topic of its first coordinator,
		// and says at every try that it does.
		quick: 4,
	}
)

// options returns the options every client shares; a caller adds its own
// after them.
func options(cfg Config) ([]kgo.Opt, error) {
	p := local
	if cfg.Remote {
		p = remote
	}
	dialer := &net.Dialer{
		Timeout: p.dial,
		// A peer that vanished without a word (cut uplink, lost NAT entry) is
		// noticed after 30 s on a connection that waits for an answer.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		Control:         unansweredLimit,
	}
	login, err := cfg.Security.options()
	if err != nil {
		return nil, err
	}
	return append(login,
		kgo.SeedBrokers(cfg.Bootstrap...),
		kgo.ClientID(cfg.ClientID),
		kgo.WithLogger(newLogger(cfg.Log)),
		kgo.Dialer(cfg.Security.dial(dialer)),
		kgo.RequestTimeoutOverhead(p.overhead),
		kgo.RetryBackoffFn(func(tries int) time.Duration { return Backoff(tries-p.quick, p.backoffMin, p.backoffMax) }),
		kgo.MetadataMinAge(p.metaMin),
		kgo.MetadataMaxAge(p.metaMax),
		kgo.ConnIdleTimeout(p.idle),
		kgo.AlwaysRetryEOF(),
		kgo.DisableClientMetrics(), // KIP-714 would push bytes nobody asked for over a metered link
	), nil
}

// NewClient opens a client with the shared options and then extra; nothing is dialled
// yet.
func NewClient(cfg Config, extra ...kgo.Opt) (*kgo.Client, error) {
	if len(cfg.Bootstrap) == 0 {
		return nil, errors.New("open kafka client: no bootstrap server is given")
	}
	opts, err := options(cfg)
	if err != nil {
		return nil, fmt.Errorf("open kafka client for %v: %w", cfg.Bootstrap, err)
	}
	cl, err := kgo.NewClient(append(opts, extra...)...)
	if err != nil {
		return nil, fmt.Errorf("open kafka client for %v: %w", cfg.Bootstrap, err)
	}
	return cl, nil
}

// Backoff is the pause before try number tries (from 1): low doubled each
// time up to high, of which between half and all is waited, so that boxes
// which lost their centre together do not come back together.
func Backoff(tries int, low, high time.Duration) time.Duration {
	d := high
	if tries < 1 {
		tries = 1
	}
	if tries < 20 {
		d = min(high, low<<(tries-1))
	}
	return d/2 + rand.N(d/2+1)
}
