//go:build linux

package network

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Lease is what a DHCP server gave (RFC 2131).
type Lease struct {
	Address netip.Prefix
	Routes  []Route // of option 121 (RFC 3442), else the default route of option 3
	DNS     []netip.Addr
	NTP     []netip.Addr
	Server  netip.Addr

	Renew, Rebind, Expiry time.Time // T1, T2 and the end

	ack *dhcpv4.DHCPv4
}

// Route is one route of a lease. Without a Gateway it is on the link.
type Route struct {
	To      netip.Prefix
	Gateway netip.Addr
}

// errNak is a server's refusal: the address must be given up at once.
var errNak = errors.New("the DHCP server refuses the address")

// phase is where a client stands (RFC 2131, figure 5).
type phase int

const (
	selecting phase = iota
	bound
	renewing
	rebinding
	expired
)

func (l *Lease) phase(now time.Time) phase {
	switch {
	case l == nil:
		return selecting
	case now.Before(l.Renew):
		return bound
	case now.Before(l.Rebind):
		return renewing
	case now.Before(l.Expiry):
		return rebinding
	}
	return expired
}

// retryIn is the wait after an attempt that was not answered: half of what
// is left of the phase, at least a minute (RFC 2131, 4.4.5), but never past
// the phase's end.
func (l *Lease) retryIn(now time.Time) time.Duration {
	end := l.Expiry
	if l.phase(now) == renewing {
		end = l.Rebind
	}
	left := end.Sub(now)
	return max(0, min(left, max(left/2, time.Minute)))
}

const (
	firstRetry = 2 * time.Second
	lastRetry  = time.Minute
)

// discoverIn is the wait after n failed attempts to get a lease at all. The
// spread keeps the boxes of a site apart when power comes back.
func discoverIn(n int) time.Duration {
	delay := min(firstRetry<<min(n, 10), lastRetry)
	return delay - delay/4 + rand.N(delay/2)
}

// dhcpClient speaks to servers on one link. Errors other than errNak mean
// that nobody answered.
type dhcpClient interface {
	// acquire gets a lease, of the address want if the server lets it.
	acquire(ctx context.Context, want netip.Addr) (*Lease, error)
	// renew asks the lease's server, or any if rebind is set.
	renew(ctx context.Context, l *Lease, rebind bool) (*Lease, error)
}

// leaser keeps one link leased, for ever.
type leaser struct {
	client dhcpClient
	log    *slog.Logger
	// changed carries out a new lease, or with nil the loss of the old.
	changed func(old, new *Lease)
	carrier chan bool // the link's carrier, when it changes
}

// run returns when ctx ends. The lease is kept: whoever held on to the
// address until now may need it for the last words.
func (w *leaser) run(ctx context.Context) {
	var lease *Lease
	up, moved := false, false // moved: the cable may be in another network
	attempts := 0
	for ctx.Err() == nil {
		var got *Lease
		var err error
		wait := time.Duration(0)
		switch p := lease.phase(time.Now()); {
		case p == expired:
			w.log.Warn("DHCP lease has expired", "address", lease.Address)
			err = errNak
		case p == selecting && !up:
			wait = lastRetry
		case p == selecting || p == bound && up && moved:
			got, err = w.client.acquire(ctx, lease.address())
		case p == bound || !up:
			wait = time.Until(lease.turn(time.Now()))
		default:
			got, err = w.client.renew(ctx, lease, p == rebinding)
		}
		switch {
		case got != nil:
			moved, attempts = false, 0
			w.changed(lease, got)
			lease = got
			continue
		case errors.Is(err, errNak):
			if lease != nil {
				w.changed(lease, nil)
			}
			lease = nil
			attempts++
		case err != nil && ctx.Err() == nil:
			w.log.Info("no answer by DHCP", "err", err)
			attempts++
		}
		if err != nil {
			wait = discoverIn(attempts)
			if p := lease.phase(time.Now()); p == renewing || p == rebinding {
				wait = lease.retryIn(time.Now())
			}
		}
		now, changed := w.wait(ctx, wait, up)
		if changed && now {
			moved, attempts = lease != nil, 0
		}
		up = now
	}
}

// wait sleeps, at most until the carrier changes.
func (w *leaser) wait(ctx context.Context, d time.Duration, up bool) (now, changed bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case now := <-w.carrier:
		return now, now != up
	}
	return up, false
}

// address is the address to ask for again; the zero Addr without a lease.
func (l *Lease) address() netip.Addr {
	if l == nil {
		return netip.Addr{}
	}
	return l.Address.Addr()
}

// turn is when the present phase ends.
func (l *Lease) turn(now time.Time) time.Time {
	switch l.phase(now) {
	case bound:
		return l.Renew
	case renewing:
		return l.Rebind
	}
	return l.Expiry
}
