// Package broker is the edge broker: a Kafka that runs on one small box,
// where an acknowledged record survives the plug being pulled. It ties the
// parts below it (store, meta, catalog, group, server) into one service.
package broker

import (
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// Config is all that a broker is given. FS and Listeners are required; the
// zero value of every other field means the default named beside it.
type Config struct {
	// FS is the data directory; the broker owns everything in it.
	FS vfs.FS
	// Listeners accept Kafka clients: an *auth.Listener with the security that
	// it names (see Listen), any other in plain text. Run closes them.
	Listeners []net.Listener
	// Topics are made at start if they are absent; they are never removed.
	Topics []site.Topic
	// AutoCreate lets a metadata request make a topic, which is what every
	// producer and consumer sends first.
	AutoCreate bool
	// DiskShare is the share of the disk that all records together may take,
	// such as "80%", which is the default; see wayside.disk.share.
	DiskShare string

	// Advertise says which address a client is told to dial for this broker.
	// Default: Advertised when it is set, else the local address of the
	// client's own connection.
	Advertise func(conn net.Conn) (host string, port int32)
	// Advertised is a fixed "host:port" to tell clients.
	Advertised string

	// Access judges what clients may do; nil allows everything.
	Access *auth.Policy
	// Problems of the configuration, for the status page: what is served is
	// less than was asked for.
	Problems []manifest.Fact

	// FormatLevel says how new the formats are that may be written now: see
	// manifest.FormatLevel, which is the default.
	FormatLevel func() int

	Registerer prometheus.Registerer // default: metrics are kept and not exported
	Log        *slog.Logger          // default: discarded
	// Now is the clock of records' timestamps; default time.Now.
	Now func() time.Time

	Limits Limits
}

// Limits bound what clients may make the broker do. Zero means the default.
type Limits struct {
	Connections     int           // open at once; default 4096
	RequestBytes    int32         // one request's size; default 32 MiB
	RequestMemory   int64         // all requests being read or handled; default 32 MiB
	FetchBytes      int32         // one fetch response's records; default 8 MiB
	DiskReserve     int64         // bytes of free disk that records may not use; default 32 MiB
	IdleTimeout     time.Duration // a connection without a request; default 10 min
	TransferTimeout time.Duration // one request's body, or one write, without progress; default 30 s
	JournalBytes    int64         // size of the state's journal at which it is written anew; default 4 MiB
	SyncLinger      time.Duration // how long records of acks=0/1 wait for their fdatasync, four times as long under load, 20 times while nobody reads; default 5 ms
	RebalanceDelay  time.Duration // how long a new consumer group waits for more members; default 200 ms
}

func (c *Config) setDefaults() error {
	if c.FS == nil {
		return errors.New("broker config: FS is missing")
	}
	if len(c.Listeners) == 0 {
		return errors.New("broker config: no listener")
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.FormatLevel == nil {
		c.FormatLevel = func() int { return manifest.FormatLevel }
	}
	c.Limits.setDefaults()
	if c.Advertise == nil {
		adv, err := advertiser(c.Advertised)
		if err != nil {
			return err
		}
		c.Advertise = adv
	}
	return nil
}

func (l *Limits) setDefaults() {
	orInt(&l.Connections, 4096)
	orInt(&l.RequestBytes, 32<<20)
	orInt(&l.RequestMemory, 32<<20)
	orInt(&l.FetchBytes, 8<<20)
	orInt(&l.DiskReserve, 32<<20)
	orInt(&l.IdleTimeout, 10*time.Minute)
	orInt(&l.TransferTimeout, 30*time.Second)
	orInt(&l.SyncLinger, 5*time.Millisecond)
	orInt(&l.RebalanceDelay, 200*time.Millisecond)
}

func orInt[T int | int32 | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
