package connect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// Config is what the frame needs to run connectors.
type Config struct {
	Instances []Instance
	Site      string   // the box's name
	Broker    []string // bootstrap of the box's broker, host:port
	FS        vfs.FS   // spools; the frame owns everything in it; nil: none, memory only
	Secrets   string   // folder of the files that profiles name
	// Listen is net.Listen for TCP, or takes a supervisor's socket; nil: net.Listen.
	Listen func(address string) (net.Listener, error)
	// ListenPacket is the same for UDP.
	ListenPacket func(address string) (net.PacketConn, error)
	Registerer   prometheus.Registerer // nil keeps the metrics to itself
	Log          *slog.Logger          // nil discards
	Now          func() time.Time      // default time.Now
}

func (c *Config) now() time.Time { return c.Now() }

// Instance is one connector and what the profile says of it.
type Instance struct {
	Connector
	Name, Protocol string
	Records        site.Records
	Commands       *site.Commands // nil: none
}

// NewInstance puts a connector and its entry of the profile together.
func NewInstance(l site.Located, c Connector) Instance {
	common := l.Common()
	i := Instance{Connector: c, Name: common.Name, Protocol: l.Protocol, Commands: common.Commands}
	if common.Records != nil {
		i.Records = *common.Records
	} else {
		i.Records = site.DefaultRecords(common.Name)
	}
	return i
}

// What connectors may hold in memory: each, and all together. Spooled and
// posted records count apart.
const (
	instanceMemory = 4 << 20
	leastMemory    = 256 << 10
	allMemory      = 32 << 20
)

// Service runs connectors. Make it with New, then call Run once.
type Service struct {
	cfg   Config
	log   *slog.Logger
	boxes []*Box
	kafka *broker
	ready chan struct{}
}

// New prepares every connector; nothing runs yet.
func New(cfg Config) (*Service, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, log: cfg.Log, ready: make(chan struct{})}
	var err error
	if s.kafka, err = newBroker(&s.cfg); err != nil {
		return nil, err
	}
	if err := s.register(cfg.Registerer); err != nil {
		return nil, err
	}
	for _, i := range cfg.Instances {
		b, err := newBox(&s.cfg, i, s.kafka.of(i.Name))
		if err != nil {
			return nil, err
		}
		s.boxes = append(s.boxes, b)
	}
	return s, nil
}

func newBox(cfg *Config, i Instance, back backend) (*Box, error) {
	memory := max(leastMemory, min(instanceMemory, allMemory/int64(max(1, len(cfg.Instances)))))
	b := &Box{
		cfg: cfg, name: i.Name, protocol: i.Protocol, log: cfg.Log.With("connector", i.Name),
		records: i.Records, commands: i.Commands, headers: slices.Sorted(maps.Keys(i.Records.Headers)),
		budget: newBudget(memory), back: back, over: make(chan struct{}),
	}
	var err error
	if b.spool, err = site.ParseSize(i.Records.Spool); err != nil {
		return nil, fmt.Errorf("connector %s: spool: %w", i.Name, err)
	}
	if _, ok := encoders[b.records.Format]; !ok && b.records.Format != "" {
		return nil, fmt.Errorf("connector %s: format %q is unknown", i.Name, b.records.Format)
	}
	b.state.s = State{Name: i.Name, Protocol: i.Protocol, State: Starting, Since: cfg.now()}
	b.queue = newQueue(memory, &b.state, b.log)
	if cfg.FS != nil {
		if err := b.queue.open(cfg.FS, "spool/"+i.Name, b.spool); err != nil {
			return nil, fmt.Errorf("connector %s: %w", i.Name, err)
		}
	}
	if i.Commands != nil {
		b.incoming = make(chan Command)
		b.maxAge, _ = time.ParseDuration(i.Commands.MaxAge)
	}
	return b, nil
}

// Run serves all connectors until ctx ends; no device and no broker that is
// away ends it.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for i, b := range s.boxes {
		wg.Go(func() { b.run(ctx, s.cfg.Instances[i].Connector) })
	}
	close(s.ready)
	wg.Wait()
	for _, b := range s.boxes {
		b.back.close()
	}
	s.kafka.Close()
	return nil
}

// Ready is closed when every connector was started.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// Healthy is nil while the frame makes progress.
func (s *Service) Healthy() error {
	select {
	case <-s.ready:
	default:
		return errors.New("connectors are not running")
	}
	for _, b := range s.boxes {
		b.state.get()
	}
	return nil
}

// States are what is known of every connector, in the profile's order.
func (s *Service) States() []State {
	all := make([]State, len(s.boxes))
	for i, b := range s.boxes {
		all[i] = b.state.get()
	}
	return all
}

// Status reports every connector. A device that is away is no fault of the
// box: OK stays true. It is false while the broker takes no records.
func (s *Service) Status() manifest.Report {
	rep := manifest.Report{Name: "connect", OK: true, Devices: s.States()}
	up, waiting := 0, int64(0)
	for _, d := range rep.Devices {
		if d.State == Running {
			up++
		}
		waiting += d.OnDisk
	}
	rep.Summary = fmt.Sprintf("%d of %d connectors are up", up, len(s.boxes))
	if problem := s.kafka.problem(); problem != nil {
		rep.OK = false
		rep.Summary += fmt.Sprintf("; broker does not take records, %d wait on disk: %v", waiting, problem)
	}
	return rep
}
