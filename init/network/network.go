//go:build linux

// Package network gives the box its addresses: it configures interfaces as
// they appear, by what the site profile says of them, and keeps DHCP leases.
package network

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// retryAfter is the wait before an interface that could not be configured is
// tried again, and the longest time between two looks at all of them.
const retryAfter = 10 * time.Second

// Config is what a Network works with.
type Config struct {
	Profile    site.Network
	Hostname   string // of the kernel and in DHCP requests; "" leaves it
	Log        *slog.Logger
	ResolvConf string // file to write; default manifest.RunDir + "/resolv.conf"
	// Guard is deferred in every goroutine, with its purpose: it recovers from
	// a panic, which would end the process. nil lets panics pass.
	Guard func(what string)
}

// Network keeps the interfaces of the box configured.
type Network struct {
	cfg     Config
	kernel  kernel
	client  func(link string) dhcpClient
	setHost func(string) error
	answers func(ctx context.Context, index int, gateway netip.Addr) bool
	online  chan struct{}
	again   chan struct{} // the profile has changed

	resolv   sync.Mutex // serialises writes of resolv.conf
	resolver string     // what is in it

	mu  sync.Mutex     // and of Profile and Hostname in cfg
	ifs map[int]*iface // by the kernel's index
}

// iface is one interface under our care.
type iface struct {
	link   Link
	plan   LinkPlan
	ok     bool // plan was carried out
	mtu    int  // before any plan
	lease  *Lease
	worker *leaser // nil without DHCP
	stop   context.CancelFunc
}

// New prepares a Network; nothing is touched before Run.
func New(cfg Config) *Network {
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = manifest.RunDir + "/resolv.conf"
	}
	if cfg.Guard == nil {
		cfg.Guard = func(string) {}
	}
	n := &Network{
		cfg: cfg, kernel: rtnl{guard: cfg.Guard},
		setHost: func(name string) error { return unix.Sethostname([]byte(name)) },
		answers: answers,
		online:  make(chan struct{}), again: make(chan struct{}, 1), ifs: map[int]*iface{},
	}
	n.client = func(link string) dhcpClient { return dhcp{link: link, hostname: n.cfg.Hostname} }
	return n
}

// Reconfigure has the interfaces be as another profile says, soon. What they
// had by the one before is taken back; a lease whose interface still asks DHCP
// with the same metric stays.
func (n *Network) Reconfigure(profile site.Network, hostname string) {
	n.mu.Lock()
	n.cfg.Profile, n.cfg.Hostname = profile, hostname
	n.mu.Unlock()
	select {
	case n.again <- struct{}{}:
	default: // it is told already
	}
}

// Run configures the interfaces there are and those that come, until ctx
// ends. Addresses stay. An error means that the kernel does not tell of
// changes; problems of single interfaces are logged and tried again.
func (n *Network) Run(ctx context.Context) error {
	n.nameHost()
	n.writeResolvConf()
	var workers sync.WaitGroup
	defer workers.Wait()
	changes, err := n.kernel.watch(ctx, &workers)
	if err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-n.again:
			n.nameHost()
		case <-timer.C:
		}
		n.reconcile(ctx, &workers)
		n.writeResolvConf() // whose servers come first may have changed
		timer.Reset(retryAfter)
	}
}

func (n *Network) nameHost() {
	n.mu.Lock()
	name := n.cfg.Hostname
	n.mu.Unlock()
	if name == "" {
		return
	}
	if err := n.setHost(name); err != nil {
		n.cfg.Log.Warn("set host name", "err", err)
	}
}

// reconcile brings the kernel to what the profile wants.
func (n *Network) reconcile(ctx context.Context, workers *sync.WaitGroup) {
	links, err := n.kernel.links()
	if err != nil {
		n.cfg.Log.Warn("network", "err", err)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(links)
	plans := Plan(n.cfg.Profile, links)
	for index, i := range n.ifs {
		if !slices.ContainsFunc(plans, func(p LinkPlan) bool { return p.Index == index }) {
			n.undo(i, LinkPlan{}) // no entry of the profile is for it any more
			delete(n.ifs, index)
		}
	}
	for _, plan := range plans {
		link := links[slices.IndexFunc(links, func(l Link) bool { return l.Index == plan.Index })]
		i := n.ifs[plan.Index]
		if i == nil {
			i = &iface{mtu: link.MTU}
			n.ifs[plan.Index] = i
		}
		n.update(ctx, workers, i, link, plan)
	}
	n.checkOnline()
}

// undo takes back what the plan of an interface gave and the next does not.
// The caller holds mu.
func (n *Network) undo(i *iface, next LinkPlan) {
	if i.worker != nil && !(next.DHCP4 && next.Metric == i.plan.Metric) {
		i.stop()
		if i.lease != nil {
			n.note("give up DHCP lease", n.kernel.lease(i.plan, i.lease, nil))
		}
		i.worker, i.stop, i.lease = nil, nil, nil
	}
	n.note("take back addresses", n.kernel.clear(i.plan, next, i.mtu))
}

func (n *Network) note(what string, err error) {
	if err != nil {
		n.cfg.Log.Warn(what, "err", err)
	}
}

// forget drops interfaces that are gone. The caller holds mu.
func (n *Network) forget(links []Link) {
	for index, i := range n.ifs {
		if slices.ContainsFunc(links, func(l Link) bool { return l.Index == index }) {
			continue
		}
		n.cfg.Log.Info("network interface is gone", "name", i.plan.Name)
		if i.stop != nil {
			i.stop()
		}
		delete(n.ifs, index)
	}
}

// update configures one interface where it differs, and tells its DHCP
// worker of the carrier. The caller holds mu.
func (n *Network) update(ctx context.Context, workers *sync.WaitGroup, i *iface, link Link, plan LinkPlan) {
	changed := !reflect.DeepEqual(i.plan, plan)
	if changed && i.plan.Index == plan.Index { // it has had another
		n.undo(i, plan)
	}
	if !i.ok || !link.Up || changed {
		err := n.kernel.configure(plan)
		if err != nil {
			n.cfg.Log.Warn("configure network interface", "err", err)
		} else if !i.ok {
			n.cfg.Log.Info("network interface is up", "name", plan.Name)
		}
		i.plan, i.ok = plan, err == nil
	}
	if plan.DHCP4 && i.worker == nil {
		w := n.newWorker(i, plan)
		tell(w.carrier, link.Carrier)
		work, stop := context.WithCancel(ctx)
		i.worker, i.stop = w, stop
		workers.Go(func() {
			defer n.cfg.Guard("DHCP on " + plan.Name)
			w.run(work)
		})
	}
	if i.link.Carrier != link.Carrier {
		if !link.Loopback {
			n.cfg.Log.Info("network cable", "name", plan.Name, "carrier", link.Carrier)
		}
		if i.worker != nil {
			tell(i.worker.carrier, link.Carrier)
		}
	}
	i.link = link
}

// tell replaces what is not read yet: only the last state counts.
func tell(c chan bool, state bool) {
	select {
	case <-c:
	default:
	}
	c <- state
}

func (n *Network) newWorker(i *iface, plan LinkPlan) *leaser {
	w := &leaser{client: n.client(plan.Name), log: n.cfg.Log.With("interface", plan.Name), carrier: make(chan bool, 1)}
	w.changed = func(old, new *Lease) { n.setLease(i, w, old, new) }
	return w
}

// setLease carries a lease into the kernel and resolv.conf. What a worker says
// that was stopped meanwhile counts no more.
func (n *Network) setLease(i *iface, w *leaser, old, new *Lease) {
	n.mu.Lock()
	if i.worker != w {
		n.mu.Unlock()
		return
	}
	n.note("apply DHCP lease", n.kernel.lease(i.plan, old, new))
	if new != nil && (old == nil || old.Address != new.Address) {
		n.cfg.Log.Info("address by DHCP", "interface", i.plan.Name, "address", new.Address, "server", new.Server)
	}
	i.lease = new
	n.checkOnline()
	n.mu.Unlock()
	n.writeResolvConf()
}
