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

	"github.com/waysideos/wayside/services/connect/unpack"
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

	room *unpack.Room // of what sinks unpack
}

func (c *Config) now() time.Time { return c.Now() }

// Instance is one connector and what the profile says of it.
type Instance struct {
	Connector
	Name, Protocol string
	Records        site.Records
	Commands       *site.Commands // nil: none
	Declared       site.Instance  // the entry of the profile; nil where there is none
}

// NewInstance puts a connector and its entry of the profile together.
func NewInstance(l site.Located, c Connector) Instance {
	common := l.Common()
	i := Instance{Connector: c, Name: common.Name, Protocol: l.Protocol, Commands: common.Commands, Declared: l.Instance}
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
	kafka *broker
	ready chan struct{}

	changing sync.Mutex // Run's begin and end, Reconfigure
	ctx      context.Context
	mu       sync.Mutex
	slots    []*slot // in the profile's order
	refused  error   // why the profile that changed last is not in force
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
	if s.cfg.room, err = unpack.NewRoom(unpacked); err != nil {
		return nil, err
	}
	if s.kafka, err = newBroker(&s.cfg); err != nil {
		return nil, err
	}
	if err := s.register(cfg.Registerer); err != nil {
		return nil, err
	}
	for _, i := range cfg.Instances {
		slot, err := s.prepare(i, len(cfg.Instances))
		if err != nil {
			return nil, err
		}
		s.slots = append(s.slots, slot)
	}
	return s, nil
}

// memory is what each of n connectors may hold.
func memory(n int) int64 {
	return max(leastMemory, min(instanceMemory, allMemory/int64(max(1, n))))
}

func newBox(cfg *Config, i Instance, back backend, memory int64) (*Box, error) {
	b := &Box{
		cfg: cfg, name: i.Name, protocol: i.Protocol, log: cfg.Log.With("connector", i.Name),
		records: i.Records, commands: i.Commands, headers: slices.Sorted(maps.Keys(i.Records.Headers)),
		budget: newBudget(memory), back: back, over: make(chan struct{}),
	}
	b.deadMost.Store(maxDead)
	var err error
	if b.spool, err = i.check(); err != nil {
		return nil, err
	}
	b.state.s = State{Name: i.Name, Protocol: i.Protocol, State: Starting, Since: cfg.now()}
	b.queue = newQueue(memory, &b.state, b.log)
	b.aside.state, b.aside.log, b.aside.wake = &b.state, b.log, make(chan struct{}, 1)
	if i.Commands != nil {
		b.incoming = make(chan Command)
		b.maxAge, _ = time.ParseDuration(i.Commands.MaxAge)
	}
	return b, nil
}

// check returns the bound of the spool.
func (i *Instance) check() (spool int64, err error) {
	if spool, err = site.ParseSize(i.Records.Spool); err != nil {
		return 0, fmt.Errorf("connector %s: spool: %w", i.Name, err)
	}
	if f := i.Records.Format; f != "" && encoders[f] == nil {
		return 0, fmt.Errorf("connector %s: format %q is unknown", i.Name, f)
	}
	return spool, nil
}

// Run serves all connectors until ctx ends; no device and no broker that is
// away ends it.
func (s *Service) Run(ctx context.Context) error {
	s.changing.Lock()
	s.ctx = ctx
	for _, slot := range s.slots {
		slot.start(ctx)
	}
	close(s.ready)
	s.changing.Unlock()
	<-ctx.Done()
	s.changing.Lock()
	defer s.changing.Unlock()
	for _, slot := range s.slots {
		<-slot.ended
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
	s.States()
	return nil
}

// States are what is known of every connector, in the profile's order.
func (s *Service) States() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]State, len(s.slots))
	for i, slot := range s.slots {
		all[i] = slot.box.state.get()
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
	rep.Summary = fmt.Sprintf("%d of %d connectors are up", up, len(rep.Devices))
	if problem := s.kafka.problem(); problem != nil {
		rep.OK = false
		rep.Summary += fmt.Sprintf("; broker does not take records, %d wait on disk: %v", waiting, problem)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused != nil {
		rep.Summary += "; the changed profile is not in force: " + s.refused.Error()
	}
	return rep
}
